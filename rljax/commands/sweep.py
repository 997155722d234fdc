"""Trains an agent over a grid of settings and seeds, and compares the settings.

rljax sweep --grid learning_rate=3e-4,1e-3,3e-3
rljax sweep ppo --grid "hidden_sizes=(32,),(64,64)" env.gravity=9.8,20
rljax sweep --confirm 20       # the best one again, on 20 fresh seeds
rljax sweep --resume runs/2026-01-31_120000_sweep_PPO_CartPole-v1
"""

import ast
import csv
import dataclasses
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import rich.console
import rich.table
import tyro

import rljax
from rljax import parallel, plotting
from rljax.commands.train import TYRO, Agent, make_env
from rljax.experiment import cli, selection, signals, statistics, writers
from rljax.experiment import settings as settings_
from rljax.experiment.reports import updates_at
from rljax.training import count_updates


@dataclasses.dataclass(frozen=True)
class Config(cli.TrainingFlags):
    """Trains an agent over a grid of settings and compares them."""

    agent: Agent = dataclasses.field(default_factory=rljax.PPO)
    """Learning rule, and what the grid does not say."""
    grid: tuple[str, ...] = ("learning_rate=3e-4,1e-3,3e-3,1e-2",)
    """Name and values of each field to vary: learning_rate=1e-3,3e-3 env.gravity=9.8,20
    (fields of the environment begin with env.; all combinations are trained)."""
    num_updates: int | None = None
    """Updates per run. None: num_steps."""
    num_steps: int | None = None
    """Environment steps per run, the last update done whole. None, as num_updates is:
    those of 100 updates, of the shortest ones if they differ."""
    confirm: int | None = None
    """Fresh seeds on which the best setting is trained again, as those that chose it
    promise too much. None: it is not."""
    batch_size: int | None = None
    """Runs that one device vmaps together. None: as suits the device."""
    debug: bool = False
    """Stop at the first NaN and say which operation made it."""

    def __post_init__(self):
        names = "num_seeds num_updates num_steps num_episodes confirm batch_size"
        names += " keep_best"
        cli.check_flags(self, **dict.fromkeys(names.split(), 1))
        cli.check_length(self.num_updates, self.num_steps)


def parse(arguments: list[str]) -> Config:
    """The configuration that flags give."""
    return tyro.cli(Config, args=arguments, config=TYRO)


def swept(config: Config, num_updates: int) -> dict[str, Any]:
    """What `rljax.sweep` is asked for, but for so many of the shortest updates."""
    env, grid = make_env(config), dict(map(parse_axis, config.grid))
    arguments = {"agent": config.agent, "env": env, "settings": grid}
    if config.num_updates is not None:
        return arguments | {"num_updates": num_updates}
    built = settings_.expand(**arguments).built
    shortest = min(agent.steps_per_update for agent, _ in built)
    return arguments | {"num_steps": num_updates * shortest}


def main() -> int:
    """Runs the command with the flags of `sys.argv`; returns the exit status."""
    try:
        config = parse(cli.arguments())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parallel.use_cpu_cores()
    try:
        cli.cache_compilations(config.compilation_cache)
        env = make_env(config)
        grid = dict(map(parse_axis, config.grid))
        expansion = settings_.expand(config.agent, env, grid)
        lengths = [agent.steps_per_update for agent, _ in expansion.built]
        shortest = min(lengths)
        if config.num_updates is None and config.num_steps is None:
            config = dataclasses.replace(config, num_steps=100 * shortest)
        total = count_updates(shortest, config.num_updates, config.num_steps)
        cli.check_keep_best(config.keep_best, total)
        longest = lengths.index(max(lengths))
        if config.num_steps and not updates_at(total, lengths, longest):
            raise ValueError(
                f"--num-steps must be at least those of one update, {max(lengths)} of "
                f"the longest, got {config.num_steps}."
            )
        name = f"sweep_{type(config.agent).__name__}_{config.env}"
        folder = config.checkpoints.resume or cli.make_run_folder(config.output, name)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    cli.say(
        console,
        f"{len(expansion.settings)} settings of {type(config.agent).__name__} on "
        f"{config.env} × {config.num_seeds} seeds × {total} updates on "
        f"{len(jax.local_devices())} {jax.default_backend()} device(s)",
    )

    with signals.deferred() as asked:
        return cli.report_end(
            folder, lambda: run(config, env, grid, total, folder, console, asked), asked
        )


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """The name and values of "name=value,value": numbers, tuples, None, or words."""
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise ValueError(
            f"--grid takes name=value,value …, such as learning_rate=1e-3,3e-3, got "
            f"{text!r}."
        )
    try:
        return name, list(ast.literal_eval(f"[{values}]"))
    except (ValueError, SyntaxError):
        return name, values.split(",")


def run(
    config: Config,
    env: Any,
    grid: dict[str, list[Any]],
    total: int,
    folder: Path,
    console: rich.console.Console,
    asked: signals.Asked,
) -> int:
    """Sweeps, compares and leaves everything in `folder`; returns the exit status."""
    resumes = config.checkpoints.resume is not None
    content = {
        "agent_class": type(config.agent).__name__,
        **dataclasses.asdict(config),
        "env_settings": dataclasses.asdict(env),
    }
    if not resumes:
        cli.write_config(folder, content, version=rljax.__version__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table tells of faults
        result = rljax.sweep(
            config.agent,
            env,
            jax.random.key(config.seed),
            num_seeds=config.num_seeds,
            num_updates=config.num_updates,
            num_steps=config.num_steps,
            settings=grid,
            num_episodes=config.num_episodes,
            greedy=config.greedy,
            keep_best=cli.keep_best(config.keep_best),
            batch_size=config.batch_size,
            callbacks=[
                writers.CSVWriter(folder / "metrics.csv"),
                writers.ProgressBar(console),
            ],
            checkpoints=config.checkpoints.build(folder),
            resume=resumes,
            stop=asked.is_set,
            debug=config.debug,
        )
    if resumes:  # with other flags, perhaps
        cli.write_config(folder, content, version=rljax.__version__)
    for fault in result.faults[:5]:
        cli.say(console, f"broken: {fault}")
    if len(result.faults) > 5:
        cli.say(console, f"broken: {len(result.faults) - 5} more")
    if result.outcomes[0].evaluation is None:
        cli.say_interrupted(console, folder, result, total)
        return cli.INTERRUPTED
    cli.write_evaluation(folder / "evaluation.csv", result)
    write_summary(folder / "summary.csv", result)
    plotting.save_sweep(
        folder / "sweep.png",
        result,
        title=f"{type(config.agent).__name__} on {config.env}",
    )
    console.print(summary_table(result))
    if config.confirm is not None:

        def end_if_asked(_):
            if asked.is_set():  # all of the sweep is saved
                raise KeyboardInterrupt

        confirmed = selection.confirm(
            result,
            num_seeds=config.confirm,
            callbacks=[writers.ProgressBar(console), end_if_asked],
        )
        write_summary(folder / "confirmed.csv", confirmed)
        cli.say(console, str(confirmed))
    cli.say(console, f"Saved in {folder}")
    return 0


def write_summary(
    path: Path, result: rljax.SweepResult | selection.Confirmation
) -> None:
    """Writes a row per setting as CSV."""
    rows = result.summary()
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def summary_table(result: rljax.SweepResult) -> rich.table.Table:
    """Settings by their score, each with how often the best one's seeds beat its."""
    rows = result.summary()
    best = result.best()
    order = sorted(range(len(rows)), key=lambda i: -rows[i]["iqm"])
    names = list(result.outcomes[0].setting)
    table = rich.table.Table(title="Settings by the interquartile mean of the return")
    for name in names:
        table.add_column(name, justify="right")
    some_cut = any(row["num_cut"] for row in rows)
    cut = ["episodes cut"] if some_cut else []
    for heading in ("IQM", "95 %", "broken", *cut, "P(first >)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for i in order:
        row, outcome = rows[i], result.outcomes[i]
        better = "–"
        if outcome is not best:
            pair = (best.scores[None], outcome.scores[None])
            chance = statistics.probability_of_improvement(*pair)
            low, high = statistics.stratified_interval(
                statistics.probability_of_improvement, *pair
            )
            better = f"{chance:.2f} [{low:.2f}, {high:.2f}]"
        table.add_row(
            *(settings_.text(outcome.setting[name]) for name in names),
            f"{row['iqm']:.1f}",
            f"[{row['iqm_low']:.1f}, {row['iqm_high']:.1f}]",
            str(row["num_broken"]),
            *([str(row["num_cut"])] if some_cut else []),
            better,
        )
    table.caption = (
        f"{cli.evaluation_title(best)} over {rows[0]['num_seeds']} seeds, 95 % "
        "bootstrap intervals. P(first >): how often a seed of the first setting beats "
        "one of this. The first was chosen by these scores: --confirm 20 trains it "
        "again on other seeds."
    )
    if some_cut:
        table.caption += (
            " The episodes that were cut had not ended: --env-kwargs max_steps N gives "
            "the environment a time limit."
        )
    return table
