#!/usr/bin/env python
"""Trains an agent with many seeds at once and evaluates each seed's greedy policy.

python scripts/train.py                                # PPO, CartPole-v1, 8 seeds
python scripts/train.py actor-critic --num-seeds 16
python scripts/train.py ppo --learning-rate 1e-3 --env-kwargs gravity 20
"""

import contextlib
import csv
import dataclasses
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import rljax
from rljax import metrics as statistics
from rljax import parallel, plotting, runs
from rljax.agents.ppo import purejaxrl_settings

try:
    import matplotlib  # noqa: F401 (checked here, before training, not after)
    import rich.console
    import rich.progress
    import rich.table
    import tyro
except ImportError as error:
    sys.exit(f"{error}. Install the command-line extra: pip install -e '.[cli]'")

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


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains an agent with many seeds at once and evaluates their greedy policies."""

    agent: Agent = dataclasses.field(default_factory=rljax.PPO)
    """Learning rule and its hyperparameters."""
    env: str = "CartPole-v1"
    """Name of the environment, as for rljax.make."""
    env_kwargs: dict[str, float] = dataclasses.field(default_factory=dict)
    """Parameters of the environment, name and value in turn: gravity 20."""
    num_seeds: int = 8
    """Independent runs, trained side by side."""
    num_updates: int | None = None
    """Updates per seed. None: anneal_updates where that is set, else 200, which solves
    CartPole-v1."""
    num_episodes: int = 100
    """Greedy evaluation episodes per seed."""
    seed: int = 0
    """Seed of the random key that all runs are split from."""
    output: Path = Path("runs")
    """Folder in which the run gets a new folder of its own."""

    def __post_init__(self):
        runs.check_flags(self, num_seeds=1, num_updates=1, num_episodes=1)

    @property
    def updates(self) -> int:
        """Updates per seed, the default filled in."""
        anneal_updates = getattr(self.agent, "anneal_updates", None)
        return self.num_updates or int(anneal_updates or 200)


def main() -> int:
    config = tyro.cli(
        Config,
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.CascadeSubcommandArgs,
            tyro.conf.SuppressFixed,
        ),
    )
    parallel.use_cpu_cores(config.num_seeds)
    try:
        env = make_env(config)
        name = f"{type(config.agent).__name__}_{config.env}"
        folder = runs.make_run_folder(config.output, name)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)

    def run_until_interrupted():
        with deferred_interrupt() as interrupted:
            return run(config, env, folder, console, interrupted)

    return runs.report_end(folder, run_until_interrupted)


def run(
    config: Config,
    env: Any,
    folder: Path,
    console: rich.console.Console,
    interrupted: threading.Event,
) -> int:
    """Trains, evaluates and leaves everything in `folder`; returns the exit status."""
    write_config(config, env, folder)
    title = f"{type(config.agent).__name__} on {config.env}"
    say(
        console,
        f"{title}: {config.num_seeds} seeds × {config.updates} updates on "
        f"{len(jax.local_devices())} {jax.default_backend()} device(s)",
    )
    anneal_updates = getattr(config.agent, "anneal_updates", None)
    if anneal_updates is not None and config.updates > anneal_updates:
        say(
            console,
            f"warning: the learning rate is 0 after {anneal_updates:g} updates "
            f"(--anneal-updates), {config.updates:g} are to be done (--num-updates)",
        )
    key_train, key_evaluate = jax.random.split(jax.random.key(config.seed))
    state, metrics = train(config, env, folder, console, interrupted, key_train)
    if metrics is None:
        say(console, f"Interrupted before the first update; see {folder}")
        return 130
    plotting.save_learning_curve(
        folder / "learning_curve.png",
        metrics,
        steps_per_update=config.agent.num_envs * config.agent.rollout_length,
        title=title,
    )
    if interrupted.is_set():
        done = metrics.num_episodes.shape[1]
        say(
            console,
            f"Interrupted after {done} of {config.updates} updates, without the final "
            f"evaluation. What was done is in\n{folder}",
        )
        return 130
    returns, lengths = evaluate(config, env, state, console, key_evaluate)
    write_evaluation(folder, returns, lengths)
    console.print(summary_table(returns, lengths))
    say(console, f"Saved in {folder}")
    return 0


def say(console: rich.console.Console, text: str) -> None:
    """Prints a line as it is: paths stay whole, brackets are no markup."""
    console.print(text, soft_wrap=True, markup=False)


@contextlib.contextmanager
def deferred_interrupt():
    """An event that the first Ctrl-C sets; the second one interrupts at once."""
    event = threading.Event()
    default = signal.getsignal(signal.SIGINT)

    def handle(*_):
        event.set()
        signal.signal(signal.SIGINT, default)
        print("\nStopping as soon as it can be; Ctrl-C again to stop at once.")

    signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, default)


def make_env(config: Config) -> Any:
    """Builds the environment; whole numbers such as max_steps arrive as floats."""
    kwargs = {
        name: int(value) if value.is_integer() else value
        for name, value in config.env_kwargs.items()
    }
    env = rljax.make(config.env, **kwargs)
    # Traces the agent's initialisation without running it: a misfit shows up now.
    jax.eval_shape(lambda: config.agent.init(jax.random.key(0), env))
    return env


def write_config(config: Config, env: Any, folder: Path) -> None:
    """The whole configuration, defaults filled in."""
    content = {
        "agent_class": type(config.agent).__name__,
        **dataclasses.asdict(config),
        "num_updates": config.updates,
        "env_settings": dataclasses.asdict(env),
    }
    runs.write_config(folder, content, version=rljax.__version__)


def train(
    config: Config,
    env: Any,
    folder: Path,
    console: rich.console.Console,
    interrupted: threading.Event,
    key: jax.Array,
) -> tuple[rljax.TrainState, rljax.Metrics | None]:
    """Trains all seeds chunk by chunk until done or interrupted.

    Returns the state, and metrics [num_seeds, updates done], None before the first.
    """
    agent, num_updates = config.agent, config.updates
    steps_of_all = agent.num_envs * agent.rollout_length * config.num_seeds
    # Equal chunks, so that one compiled program serves them all; some forty of them,
    # so that the bar moves, and short, so that Ctrl-C is heard soon.
    longest = max(1, min(num_updates // 40, 200_000 // steps_of_all))
    chunk = max(n for n in range(1, longest + 1) if num_updates % n == 0)

    def train_chunk(state):
        return jax.lax.scan(
            lambda s, _: rljax.train_step(agent, env, s), state, length=chunk
        )

    with console.status("compiling …"):
        init = parallel.map_seeds(lambda key: rljax.init_train(agent, env, key))
        state = init(jax.random.split(key, config.num_seeds))
        run_chunk = parallel.map_seeds(train_chunk).lower(state).compile()
    chunks: list[rljax.Metrics] = []
    with (
        open(folder / "metrics.csv", "w", newline="", encoding="utf-8") as file,
        progress_bar(console) as bar,
    ):
        writer = csv.writer(file)
        task = bar.add_task("training", total=num_updates, rate="", median="…")
        start = time.perf_counter()
        for done in range(chunk, num_updates + 1, chunk):
            if interrupted.is_set():
                break
            state, metrics = run_chunk(state)
            metrics = jax.tree.map(np.asarray, metrics)
            write_metrics(writer, agent, metrics, done - chunk)
            file.flush()
            chunks.append(metrics)
            rate = done * steps_of_all / (time.perf_counter() - start)
            bar.update(
                task,
                completed=done,
                rate=f"{rate:,.0f} steps/s",
                median=describe_median(metrics),
            )
    if not chunks:
        return state, None
    return state, jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *chunks)


def progress_bar(console: Any) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.BarColumn(bar_width=16),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[rate]}"),
        rich.progress.TextColumn("· median return {task.fields[median]} ·"),
        rich.progress.TimeRemainingColumn(compact=True),
        rich.progress.TextColumn("left"),
        console=console,
    )


def describe_median(metrics: rljax.Metrics) -> str:
    """Median over seeds of the mean return, where any episode ended."""
    _, returns = statistics.windowed_episode_returns(metrics, 1)
    seen = returns[~np.isnan(returns)]
    return f"{np.median(seen):.1f}" if seen.size else "none yet"


def write_metrics(writer: Any, agent: Any, metrics: rljax.Metrics, first: int) -> None:
    """One row per seed and update; the means are empty where no episode ended."""
    names = sorted(metrics.agent)
    if first == 0:
        header = "seed update steps num_episodes episode_return episode_length"
        writer.writerow([*header.split(), *names])
    num_seeds, num_updates = metrics.num_episodes.shape
    for update in range(num_updates):
        for seed in range(num_seeds):
            at = (seed, update)
            count = metrics.num_episodes[at]
            sums = (metrics.episode_return_sum[at], metrics.episode_length_sum[at])
            means = [float(total) / count if count else "" for total in sums]
            done = first + update + 1
            steps = done * agent.num_envs * agent.rollout_length
            row = [float(metrics.agent[name][at]) for name in names]
            writer.writerow([seed, done, steps, count, *means, *row])


def evaluate(
    config: Config, env: Any, state: Any, console: rich.console.Console, key: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """Greedy returns and lengths, each [num_seeds, num_episodes]."""

    def evaluate_seed(agent_state, key):
        return rljax.evaluate(
            config.agent, agent_state, env, key, num_episodes=config.num_episodes
        )

    with console.status("evaluating …"):
        keys = jax.random.split(key, config.num_seeds)
        evaluation = parallel.map_seeds(evaluate_seed)(state.agent_state, keys)
    return (
        np.asarray(evaluation.episode_returns),
        np.asarray(evaluation.episode_lengths),
    )


def write_evaluation(folder: Path, returns: np.ndarray, lengths: np.ndarray) -> None:
    with open(folder / "evaluation.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "episode", "episode_return", "episode_length"])
        for (seed, episode), value in np.ndenumerate(returns):
            writer.writerow([seed, episode, float(value), lengths[seed, episode]])


def summary_table(returns: np.ndarray, lengths: np.ndarray) -> rich.table.Table:
    """Greedy evaluation per seed, and over seeds the IQM with its interval."""
    num_seeds, num_episodes = returns.shape
    table = rich.table.Table(title=f"Greedy evaluation, {num_episodes} episodes a seed")
    for heading in ("seed", "mean return", "lowest", "highest", "mean length"):
        table.add_column(heading, justify="right")
    for seed in range(num_seeds):
        row = (returns[seed].mean(), returns[seed].min(), returns[seed].max())
        cells = [f"{value:.1f}" for value in (*row, lengths[seed].mean())]
        table.add_row(str(seed), *cells)
    scores = returns.mean(axis=1)
    low, high = statistics.bootstrap_interval(scores)
    middle = statistics.interquartile_mean(scores)
    table.add_section()
    table.add_row("IQM", f"{middle:.1f} [{low:.1f}, {high:.1f}]")
    table.caption = (
        f"Interquartile mean over {num_seeds} seeds of the mean return [95 % bootstrap "
        "interval]"
        if num_seeds > 1
        else "One seed has no interval: train several."
    )
    return table


if __name__ == "__main__":
    sys.exit(main())
