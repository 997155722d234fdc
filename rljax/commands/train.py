"""Trains an agent with many seeds at once and evaluates each seed's policy.

rljax train                                # PPO, CartPole-v1, 8 seeds
rljax train actor-critic --num-seeds 16
rljax train ppo --learning-rate 1e-3 --env-kwargs gravity 20
rljax train --resume runs/2026-01-31_120000_PPO_CartPole-v1
"""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import matplotlib  # noqa: F401 (missed now, not after the work)
import rich.console
import rich.table
import tyro

import rljax
from rljax import parallel, plotting
from rljax.experiment import cli, signals, writers
from rljax.experiment.presets import purejaxrl_settings
from rljax.training import count_updates

AGENTS = {
    "ppo": rljax.PPO(),
    "ppo-purejaxrl": purejaxrl_settings(),
    "actor-critic": rljax.ActorCritic(),
    "reinforce": rljax.Reinforce(),
}
DESCRIPTIONS = {
    "ppo": "Proximal policy optimisation, with this library's defaults.",
    "ppo-purejaxrl": "The same, with PureJaxRL's settings for 5e5 steps.",
    "actor-critic": "Advantage actor-critic: one gradient step per rollout.",
    "reinforce": "Monte-Carlo policy gradient without a critic.",
}
if TYPE_CHECKING:
    Agent = rljax.PPO | rljax.ActorCritic | rljax.Reinforce
else:
    Agent = tyro.extras.subcommand_type_from_defaults(AGENTS, DESCRIPTIONS)
TYRO = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.CascadeSubcommandArgs,
    tyro.conf.SuppressFixed,
)


@dataclasses.dataclass(frozen=True)
class Config(cli.TrainingFlags):
    """Trains an agent with many seeds at once and evaluates their policies."""

    agent: Agent = dataclasses.field(default_factory=rljax.PPO)
    """Learning rule and its hyperparameters."""
    num_updates: int | None = None
    """Updates per seed. None: num_steps, else anneal_updates where that is set, else
    200, which solves CartPole-v1."""
    num_steps: int | None = None
    """Environment steps per seed, in the place of num_updates; the last update is done
    whole."""

    def __post_init__(self):
        names = "num_seeds num_updates num_steps num_episodes keep_best"
        cli.check_flags(self, **dict.fromkeys(names.split(), 1))
        cli.check_length(self.num_updates, self.num_steps)

    @property
    def updates(self) -> int:
        """Updates per seed, the default filled in."""
        if self.num_steps is not None:
            return count_updates(self.agent.steps_per_update, None, self.num_steps)
        anneal_updates = getattr(self.agent, "anneal_updates", None)
        return self.num_updates or int(anneal_updates or 200)


def parse(arguments: list[str]) -> Config:
    """The configuration that flags give."""
    return tyro.cli(Config, args=arguments, config=TYRO)


def swept(config: Config, num_updates: int) -> dict[str, Any]:
    """What `rljax.sweep` is asked for, but for so many updates."""
    return {"agent": config.agent, "env": make_env(config), "num_updates": num_updates}


def main() -> int:
    """Runs the command with the flags of `sys.argv`; returns the exit status."""
    try:
        config = parse(cli.arguments())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parallel.use_cpu_cores(config.num_seeds)
    try:
        cli.cache_compilations(config.compilation_cache)
        env = make_env(config)
        cli.check_keep_best(config.keep_best, config.updates)
        name = f"{type(config.agent).__name__}_{config.env}"
        folder = config.checkpoints.resume or cli.make_run_folder(config.output, name)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)

    with signals.deferred() as asked:
        return cli.report_end(
            folder, lambda: run(config, env, folder, console, asked), asked
        )


def make_env(config: Any) -> Any:
    """Builds the environment; whole numbers such as max_steps arrive as floats."""
    kwargs = {
        name: int(value) if value.is_integer() else value
        for name, value in config.env_kwargs.items()
    }
    env = rljax.make(config.env, **kwargs)
    # Traces the agent's initialisation without running it: a misfit shows up now.
    jax.eval_shape(lambda: config.agent.init(jax.random.key(0), env))
    return env


def run(
    config: Config,
    env: Any,
    folder: Path,
    console: rich.console.Console,
    asked: signals.Asked,
) -> int:
    """Trains, evaluates and leaves everything in `folder`; returns the exit status."""
    resumes = config.checkpoints.resume is not None
    if not resumes:
        write_config(config, env, folder)
    title = f"{type(config.agent).__name__} on {config.env}"
    cli.say(
        console,
        f"{title}: {config.num_seeds} seeds × {config.updates} updates on "
        f"{len(jax.local_devices())} {jax.default_backend()} device(s)",
    )
    anneal_updates = getattr(config.agent, "anneal_updates", None)
    if anneal_updates is not None and config.updates > anneal_updates:
        cli.say(
            console,
            f"warning: the learning rate is 0 after {anneal_updates:g} updates "
            f"(--anneal-updates), {config.updates:g} are to be done (--num-updates)",
        )
    result = rljax.sweep(
        config.agent,
        env,
        jax.random.key(config.seed),
        num_seeds=config.num_seeds,
        num_updates=config.updates,
        num_episodes=config.num_episodes,
        greedy=config.greedy,
        keep_best=cli.keep_best(config.keep_best),
        callbacks=[
            writers.CSVWriter(folder / "metrics.csv"),
            writers.ProgressBar(console),
        ],
        checkpoints=config.checkpoints.build(folder),
        resume=resumes,
        stop=asked.is_set,
    )
    (outcome,) = result.outcomes
    if resumes:  # with other flags, perhaps
        write_config(config, env, folder)
    plotting.save_learning_curve(
        folder / "learning_curve.png",
        outcome.metrics,
        steps_per_update=config.agent.steps_per_update,
        title=title,
    )
    if outcome.evaluation is None:
        cli.say_interrupted(console, folder, result, config.updates)
        return cli.INTERRUPTED
    cli.write_evaluation(folder / "evaluation.csv", result)
    console.print(summary_table(result))
    cli.say(console, f"Saved in {folder}")
    return 0


def write_config(config: Config, env: Any, folder: Path) -> None:
    """The whole configuration, defaults filled in."""
    content = {
        "agent_class": type(config.agent).__name__,
        **dataclasses.asdict(config),
        "num_updates": config.updates,
        "env_settings": dataclasses.asdict(env),
    }
    cli.write_config(folder, content, version=rljax.__version__)


def summary_table(result: rljax.SweepResult) -> rich.table.Table:
    """The evaluation per seed, and over seeds the IQM with its interval."""
    (outcome,), (row,) = result.outcomes, result.summary()
    assert outcome.evaluation is not None
    returns = outcome.evaluation.episode_returns
    lengths = outcome.evaluation.episode_lengths
    num_seeds, num_episodes = returns.shape
    table = rich.table.Table(
        title=f"{cli.evaluation_title(outcome)}, {num_episodes} episodes a seed"
    )
    for heading in ("seed", "mean return", "lowest", "highest", "mean length"):
        table.add_column(heading, justify="right")
    for seed in range(num_seeds):
        values = (returns[seed].mean(), returns[seed].min(), returns[seed].max())
        cells = [f"{value:.1f}" for value in (*values, lengths[seed].mean())]
        update = outcome.fault_updates[seed]
        broken = f" (broke in update {update})" if update >= 0 else ""
        table.add_row(f"{seed}{broken}", *cells)
    table.add_section()
    interval = f"[{row['iqm_low']:.1f}, {row['iqm_high']:.1f}]"
    table.add_row("IQM", f"{row['iqm']:.1f} {interval}")
    table.caption = (
        f"Interquartile mean over {num_seeds} seeds of the mean return [95 % bootstrap "
        "interval]"
        if num_seeds > 1
        else "One seed has no interval: train several."
    )
    return table
