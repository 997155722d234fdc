"""Compares exploration rules on thousands of bandits, each over a grid of settings.

rljax bandits                              # 2,000 Gaussian bandits
rljax bandits --num-bandits 10000 --no-grid
rljax bandits --bandit bernoulli --num-pulls 10000
"""

import csv
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, Literal

import jax
import matplotlib  # noqa: F401 (missed now, not after the work)
import numpy as np
import rich.console
import rich.table
import tyro

import rljax
from rljax import parallel, plotting
from rljax.experiment import cli, statistics
from rljax.tabular import bandits, exploration

PUBLISHED = ("ε-greedy", "softmax", "UCB")


@dataclasses.dataclass(frozen=True)
class Config:
    """Compares exploration rules on thousands of bandits, over a grid of settings."""

    bandit: Literal["gaussian", "bernoulli"] = "gaussian"
    """Family of the rewards."""
    num_bandits: int = 2_000
    """Bandits, drawn at random; all rules play the same ones."""
    num_pulls: int = 1_000
    """Pulls of each rule on each bandit."""
    num_arms: int = 5
    """Arms of a bandit."""
    mean_loc: float = 1.0
    """Gaussian: mean of the arms' means."""
    mean_scale: float = 0.5
    """Gaussian: standard deviation of the arms' means."""
    noise_scale: float = 0.3
    """Gaussian: standard deviation of a reward about its arm's mean."""
    drift_scale: float | None = None
    """Standard deviation of the steps by which the means drift; None: they stay."""
    step_size: float | None = None
    """Step size of the estimates; None: sample means."""
    grid: bool = True
    """Whether to try other settings than the first of each rule too."""
    seed: int = 0
    """Seed of the random key."""
    output: Path = Path("runs")
    """Folder in which the run gets a new folder of its own."""

    def __post_init__(self):
        cli.check_flags(self, num_bandits=2, num_pulls=1, num_arms=2)
        if self.noise_scale <= 0 or self.mean_scale <= 0:
            raise ValueError(
                "--noise-scale and --mean-scale must be more than 0, got "
                f"{self.noise_scale} and {self.mean_scale}."
            )


def make_env(config: Config) -> Any:
    """The bandit that the flags describe."""
    if config.bandit == "bernoulli":
        return rljax.BernoulliBandit(config.num_arms, drift_scale=config.drift_scale)
    return rljax.GaussianBandit(
        num_arms=config.num_arms,
        mean_loc=config.mean_loc,
        mean_scale=config.mean_scale,
        noise_scale=config.noise_scale,
        drift_scale=config.drift_scale,
    )


def make_agents(config: Config) -> dict[str, dict[str, Any]]:
    """By rule, its settings by label; the first is the published one or the usual."""

    def learner(rule, **changes):
        settings = {"step_size": config.step_size, "discount": 0.0} | changes
        return rljax.QLearning(exploration=rule, **settings)

    def settings(label, values, make):
        return {f"{label}={value:g}": make(value) for value in values}

    gaussian = config.bandit == "gaussian"
    noise = config.noise_scale
    # The usual scale of rewards: the length of an interval that holds most of them.
    scale = 2 * (config.mean_scale + noise) if gaussian else 1.0
    top = config.mean_loc + 2 * config.mean_scale if gaussian else 1.0
    rules = {
        "ε-greedy": settings(
            "ε",
            (0.1, 0.01, 0.03, 0.3),
            lambda e: learner(exploration.EpsilonGreedy(e)),
        ),
        "softmax": settings(
            "τ",
            (0.5, 0.03, 0.1, 0.2),
            lambda tau: learner(exploration.Softmax(tau)),
        ),
        "UCB": settings(
            "c", (2.0, 0.1, 0.3, 1.0), lambda c: learner(exploration.UCB(c))
        ),
        "UCB1": settings(
            "scale",
            (scale, scale / 10, scale / 4, 2 * scale),
            lambda scale: learner(exploration.UCB1(scale)),
        ),
        "gradient": settings(
            "α",
            (0.1, 0.03, 0.3, 1.0),
            lambda a: rljax.GradientBandit(step_size=a, discount=0.0),
        ),
        "optimistic": settings(
            "Q0",
            (top + 1, top, top + 3, top + 10),
            lambda q: learner(
                exploration.EpsilonGreedy(0.0), initial_value=q, step_size=0.1
            ),
        ),
    }
    if gaussian:
        rules["KL-UCB"] = settings(
            "σ",
            (noise, noise / 3, noise * 2, noise * 5),
            lambda sigma: learner(exploration.KLUCB(sigma)),
        )
        rules["Thompson"] = settings(
            "σ",
            (noise, noise / 3, noise * 2, noise * 5),
            lambda sigma: learner(
                exploration.ThompsonGaussian(config.mean_loc, config.mean_scale, sigma)
            ),
        )
    else:
        rules["KL-UCB"] = settings(
            "c", (0.0, 1.0, 3.0), lambda c: learner(exploration.KLUCB(None, c))
        )
        rules["Thompson"] = settings(
            "α",
            (1.0, 0.5, 2.0),
            lambda prior: learner(exploration.ThompsonBernoulli(prior, prior)),
        )
    if not config.grid:
        rules = {name: dict([next(iter(grid.items()))]) for name, grid in rules.items()}
    return rules


def main() -> int:
    """Runs the command with the flags of `sys.argv`; returns the exit status."""
    config = tyro.cli(Config)
    parallel.use_cpu_cores()
    try:
        env = make_env(config)
        agents = make_agents(config)
        folder = cli.make_run_folder(config.output, f"bandits_{config.bandit}")
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    return cli.report_end(folder, lambda: run(config, env, agents, folder, console))


def run(
    config: Config, env: Any, agents: Any, folder: Path, console: rich.console.Console
) -> int:
    """Plays, compares and leaves everything in `folder`; returns the exit status."""
    cli.write_config(folder, dataclasses.asdict(config), version=rljax.__version__)
    num_settings = sum(map(len, agents.values()))
    total = num_settings * config.num_bandits * config.num_pulls
    console.print(
        f"{len(agents)} rules, {num_settings} settings × {config.num_bandits:,} "
        f"{config.bandit} bandits × {config.num_pulls:,} pulls = {total:,} pulls"
    )
    start = time.perf_counter()
    with console.status("compiling and playing …"):
        curves, means = bandits.compare_bandits(
            {name: list(grid.values()) for name, grid in agents.items()},
            env,
            jax.random.key(config.seed),
            num_bandits=config.num_bandits,
            num_pulls=config.num_pulls,
        )
    seconds = time.perf_counter() - start
    labels = {name: list(grid) for name, grid in agents.items()}
    bound = None if config.drift_scale else lower_bound(config, curves, means)
    write_curves(folder / "curves.csv", curves, labels)
    plotting.save_bandit_curves(
        folder / "bandits.png",
        curves,
        labels,
        title=f"{config.num_bandits:,} {config.bandit} bandits, {config.num_arms} arms",
        lower_bound=bound,
    )
    console.print(summary_table(config, curves, labels, bound))
    console.print(
        f"{seconds:.1f} s, compilation included. Saved in {folder}",
        soft_wrap=True,
        markup=False,
    )
    return 0


def lower_bound(config: Config, curves: Any, means: np.ndarray) -> np.ndarray:
    """Mean over bandits of Lai and Robbins' regret at the times of the curves, [K].

    Their bound holds as t grows; early, or for an arm that is almost the best one, ln t
    times its term is more than pulling nothing else would cost. So each arm's term is
    cut off at (μ* − μ_a)·t.
    """
    means = means.astype(float)
    best = means.max(-1, keepdims=True)
    pairs = np.stack([means, np.broadcast_to(best, means.shape)], -1)
    noise_scale = config.noise_scale if config.bandit == "gaussian" else None
    slopes = bandits.lai_robbins(jax.numpy.asarray(pairs), noise_scale=noise_scale)
    pulls = next(iter(curves.values())).pulls
    terms = np.minimum(
        np.asarray(slopes)[..., None] * np.log(pulls), (best - means)[..., None] * pulls
    )
    return terms.sum(1).mean(0)


def write_curves(path: Path, curves: Any, labels: dict[str, list[str]]) -> None:
    """One row per rule, setting and time: means over bandits with 95 % intervals."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = ["expected_regret", "realised_regret", "share_optimal"]
        bounds = [f"{name}{end}" for name in columns for end in ("", "_low", "_high")]
        writer.writerow(["rule", "setting", "pulls", *bounds])
        for name, curve in curves.items():
            shares = curve.optimal_pulls / curve.pulls
            scores = (curve.expected_regret, curve.realised_regret, shares)
            columns = [x for score in scores for x in statistics.mean_interval(score)]
            for g, label in enumerate(labels[name]):
                for k, pulls in enumerate(curve.pulls):
                    row = [f"{column[g, k]:.6g}" for column in columns]
                    writer.writerow([name, label, pulls, *row])


def summary_table(
    config: Config, curves: Any, labels: dict[str, list[str]], bound: Any
) -> rich.table.Table:
    """At the last pull; each rule's best setting is marked, and so is the best rule."""
    table = rich.table.Table(title=f"After {config.num_pulls:,} pulls")
    table.add_column("rule", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    headings = ("expected\nregret", "realised\nregret", "optimal", "least")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    shares_least = least_regret(curves)
    for name, curve in curves.items():
        mean, low, _ = statistics.mean_interval(curve.expected_regret[..., -1])
        realised, realised_low, _ = statistics.mean_interval(
            curve.realised_regret[..., -1]
        )
        shares = 100 * curve.optimal_pulls[..., -1].mean(0) / curve.pulls[-1]
        for g, label in enumerate(labels[name]):
            mark = " *" if g == mean.argmin() and len(mean) > 1 else ""
            table.add_row(
                name if g == 0 else "",
                label + mark,
                f"{mean[g]:.1f} ± {mean[g] - low[g]:.1f}",
                f"{realised[g]:.1f} ± {realised[g] - realised_low[g]:.1f}",
                f"{shares[g]:.1f} %",
                f"{100 * shares_least[name]:.0f} %" if g == 0 else "",
            )
    if bound is not None:
        table.add_section()
        table.add_row("Lai–Robbins", "", f"{bound[-1]:.1f}", "", "", "")
    published = least_regret({name: curves[name] for name in PUBLISHED})
    listed = ", ".join(f"{name} {100 * x:.1f} %" for name, x in published.items())
    table.caption = (
        "Means over bandits, ± the 95 % interval's half. * best setting of its rule, "
        "chosen by this table. optimal: share of pulls. least: share of bandits on "
        "which the rule's first setting has the least expected regret of all first "
        f"settings; among the published three alone: {listed}. Lai–Robbins holds as "
        "the pulls go to infinity: a rule may lie below it for long."
    )
    return table


def least_regret(curves: Any) -> dict[str, float]:
    """Share of bandits on which each rule's first setting ends with the least regret.

    Rules that tie share the bandit.
    """
    finals = np.stack([curve.expected_regret[:, 0, -1] for curve in curves.values()])
    least = finals == finals.min(0)
    return dict(zip(curves, (least / least.sum(0)).mean(1).tolist(), strict=True))
