"""Pictures of training. Needs matplotlib, from the `cli` extra."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rljax import checks
from rljax.envs.gridmaps import ARROWS
from rljax.envs.gridworld import GridWorld
from rljax.experiment.results import SweepResult
from rljax.experiment.statistics import (
    bootstrap_interval,
    interquartile_mean,
    mean_interval,
    windowed_episode_returns,
)
from rljax.tabular.bandits import BanditCurves
from rljax.tabular.planning import Plan
from rljax.tabular.regret import ExactReturns
from rljax.training import Metrics


def save_learning_curve(
    path: str | os.PathLike[str],
    metrics: Metrics,
    *,
    steps_per_update: int,
    title: str,
    num_windows: int = 60,
) -> None:
    """Draws the training return over environment steps to a picture file.

    It shows a thin line per seed, the interquartile mean over seeds, and its pointwise
    95 % bootstrap interval. A point is the mean of all episodes that ended in a window
    of updates. A seed with no such episode is left out of that window.

    Args:
      path: file to write; its ending chooses the format.
      metrics: leaves [num_seeds, num_updates].
      steps_per_update: environment steps of one update of one seed.
      title: heading.
      num_windows: points of the curve, at most.
    """
    # Unlike pyplot, a Figure of its own needs no display and leaves no global state.
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    path = checks.path("path", path)
    steps_per_update = checks.integer("steps_per_update", steps_per_update, minimum=1)
    updates, returns = windowed_episode_returns(metrics, num_windows)
    steps = updates * steps_per_update
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, returns.T, color="tab:gray", linewidth=0.7, alpha=0.6)
    middle, low, high = (np.full(len(steps), np.nan) for _ in range(3))
    for i, column in enumerate(returns.T):
        seen = column[~np.isnan(column)]
        if seen.size:
            middle[i] = interquartile_mean(seen)
            low[i], high[i] = bootstrap_interval(seen, num_resamples=500)
    num_seeds = len(returns)
    axes.plot(steps, middle, color="tab:blue", label=f"IQM of {num_seeds} seeds")
    band: Any = {"color": "tab:blue", "alpha": 0.2, "linewidth": 0}
    axes.fill_between(steps, low, high, label="95 % bootstrap interval", **band)
    axes.plot([], [], color="tab:gray", linewidth=0.7, label="one seed")
    axes.set(
        title=title,
        xlabel="environment steps per seed",
        ylabel="episode return in training",
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, steps[-1])
    axes.grid(alpha=0.3)
    axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=150)


def save_sweep(
    path: str | os.PathLike[str], result: SweepResult, *, title: str
) -> None:
    """Draws every setting's scores to a picture file, the best setting on top.

    It shows a dot per seed, the interquartile mean over seeds, and its 95 % bootstrap
    interval. A run that broke has no dot and counts as −∞; an interval that reaches −∞
    is drawn as far as the lowest score.

    Args:
      path: file to write; its ending chooses the format.
      result: of a sweep.
      title: heading.
    """
    from matplotlib.figure import Figure

    path = checks.path("path", path)
    checks.instance("result", result, SweepResult, "rljax.sweep returns")
    rows = result.summary()
    # Of equal ones the first is the best, as in `SweepResult.best`.
    middle = np.nan_to_num([row["iqm"] for row in rows], nan=-np.inf)
    order = sorted(range(len(rows)), key=lambda i: (middle[i], -i))
    finite = result.scores[np.isfinite(result.scores)]
    lowest = finite.min() if finite.size else 0.0
    figure = Figure(figsize=(8, 1.5 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for y, i in enumerate(order):
        scores = result.outcomes[i].scores
        seen = scores[np.isfinite(scores)]
        axes.plot(seen, np.full(seen.size, y), ".", color="tab:gray", alpha=0.5)
        if np.isfinite(rows[i]["iqm"]):
            ends = np.maximum([rows[i]["iqm_low"], rows[i]["iqm_high"]], lowest)
            axes.plot(ends, [y, y], color="tab:blue", linewidth=3, alpha=0.4)
            axes.plot(rows[i]["iqm"], y, "o", color="tab:blue")
    axes.plot([], [], "o-", color="tab:blue", label="IQM, 95 % bootstrap interval")
    axes.plot([], [], ".", color="tab:gray", label="one seed")

    def name(i):
        broken = rows[i]["num_broken"]
        return result.outcomes[i].label + (f" ({broken} broken)" if broken else "")

    axes.set(title=title, xlabel="mean return", ylim=(-0.5, len(rows) - 0.5))
    axes.set_yticks(range(len(rows)), [name(i) for i in order])
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)


def save_bandit_curves(
    path: str | os.PathLike[str],
    curves: Mapping[str, BanditCurves],
    labels: Mapping[str, Sequence[str]],
    *,
    title: str,
    lower_bound: Any = None,
) -> None:
    """Draws the regret of exploration rules over pulls to a picture file.

    Two panels show the expected regret and the share of optimal pulls of each rule's
    best setting, that with the least expected regret at the end. The third shows the
    expected regret at the end of every setting, the best on top. All are means over
    bandits with pointwise 95 % intervals.

    Args:
      path: file to write; its ending chooses the format.
      curves: the curves of each rule, from `bandits.compare_bandits`.
      labels: the names of each rule's settings.
      title: heading.
      lower_bound: [K] least expected regret at the curves' times; None: not drawn.
    """
    from matplotlib.figure import Figure

    path = checks.path("path", path)
    checks.instance("curves", curves, Mapping, "bandits.compare_bandits returns")
    for name, curve in curves.items():
        checks.instance(f"curves[{name!r}]", curve, BanditCurves, "those")
        if lower_bound is not None:
            checks.same_shape(lower_bound=lower_bound, pulls=curve.pulls)
    _check_names("labels", labels, curves)
    figure = Figure(figsize=(13, 8), layout="constrained")
    figure.suptitle(title)
    panels: Any = [["expected", "settings"], ["optimal", "settings"]]
    axes_of = figure.subplot_mosaic(panels, width_ratios=[1.3, 1])
    expected, optimal, settings = (
        axes_of[name] for name in ("expected", "optimal", "settings")
    )
    ends = []  # of all settings: (mean, low, high, name, colour)
    for i, (name, curve) in enumerate(curves.items()):
        color = f"C{i}"
        mean, low, high = mean_interval(curve.expected_regret[..., -1])
        names = [f"{name}, {label}" for label in labels[name]]
        ends += zip(mean, low, high, names, [color] * len(names), strict=True)
        best = int(np.argmin(mean))
        pulls = curve.pulls
        shares = np.diff(curve.optimal_pulls, axis=-1, prepend=0) / np.diff(
            pulls, prepend=0
        )
        for axes, scores in (
            (expected, curve.expected_regret),
            (optimal, 100 * shares),
        ):
            mean, low, high = mean_interval(scores[:, best])
            axes.plot(pulls, mean, color=color, label=names[best])
            axes.fill_between(pulls, low, high, color=color, alpha=0.2, linewidth=0)
    ends.sort(reverse=True, key=lambda end: end[0])
    for y, (mean, low, high, _, color) in enumerate(ends):
        bars = [[mean - low], [high - mean]]
        settings.errorbar([mean], [y], xerr=bars, color=color, fmt="o", capsize=3)
    settings.set_yticks(range(len(ends)), [name for *_, name, _ in ends], fontsize=9)
    if lower_bound is not None:
        pulls = next(iter(curves.values())).pulls
        style: Any = {"color": "black", "linestyle": "--"}
        label = "Lai–Robbins, each arm's term at most Δ·t"
        expected.plot(pulls, lower_bound, label=label, **style)
        settings.axvline(lower_bound[-1], **style)
    expected.set(title="each rule's best setting", ylabel="expected regret")
    expected.set(yscale="log", xlabel="pulls")
    optimal.set(ylabel="optimal pulls, %", xlabel="pulls", ylim=(0, 100))
    settings.set(title="all settings", xlabel="expected regret at the end")
    settings.set(xscale="log", ylim=(-0.7, len(ends) - 0.3))
    for axes in (expected, optimal, settings):
        axes.title.set_fontsize(11)
        axes.grid(alpha=0.3)
    handles, names = expected.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=150)


def save_gridworld(
    path: str | os.PathLike[str],
    grid: GridWorld,
    plan: Plan,
    q_values: Any,
    steps: Any,
    curve: ExactReturns,
    *,
    title: str,
) -> None:
    """Draws what was planned and learned on a grid to a picture file.

    Two panels show the values and the greedy actions, as arrows: those of the plan and
    those of one learned table. The third shows the exact regret of the greedy and of
    the behaviour policy over steps: the mean over seeds with its pointwise 95 %
    interval, and of the greedy policy the range of the middle 90 % of seeds.

    Args:
      path: file to write; its ending chooses the format.
      grid: the grid.
      plan: from `planning`.
      q_values: [S, A] the learned table.
      steps: [K] environment steps at the curve's points.
      curve: exact returns of all seeds, leaves [num_seeds, K].
      title: heading.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    path = checks.path("path", path)
    checks.instance("grid", grid, GridWorld, "rljax.make('GridWorld-5x5')")
    checks.instance("plan", plan, Plan, "planning.value_iteration returns")
    checks.instance(
        "curve", curve, ExactReturns, "regret.train_with_exact_returns returns"
    )
    checks.same_shape(q_values=q_values, plan=plan.q_values)
    if np.ndim(curve.greedy) != 2:
        raise ValueError(
            "curve must be of several seeds, leaves [num_seeds, K], got returns of "
            f"shape {np.shape(curve.greedy)}. Of one seed, add the axis: "
            "jax.tree.map(lambda x: x[None], curve)."
        )
    checks.same_shape(steps=steps, curve=curve.greedy[0])
    rows, columns = grid.shape
    wide = columns > 2 * rows  # such as the cliff: one above the other
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    figure.suptitle(title)
    places: Any = [["planned", "learned", "regrets"]]
    widths = [1, 1, 1.4]
    if wide:
        places, widths = [["planned", "regrets"], ["learned", "regrets"]], [1.3, 1]
    axes_of = figure.subplot_mosaic(places, width_ratios=widths)
    planned, learned, regrets = (axes_of[n] for n in ("planned", "learned", "regrets"))
    q_values = np.asarray(q_values)
    low, high = np.min(plan.values), np.max(plan.values)
    for axes, values, policy, name in (
        (planned, plan.values, plan.policy, "planned: V*"),
        (learned, q_values.max(-1), q_values.argmax(-1), "learned: max Q, first seed"),
    ):
        image = _draw_grid(
            axes, grid, np.asarray(values), np.asarray(policy), (low, high)
        )
        axes.set_title(name, fontsize=11)
    if max(grid.shape) > _MOST_NUMBERS:
        place: Any = {"location": "right" if wide else "bottom", "shrink": 0.7}
        figure.colorbar(image, ax=[planned, learned], label="value", **place)
    behaviour, greedy = curve.behaviour_regret, curve.greedy_regret
    highest = 0.0
    for scores, color, label in (
        (behaviour, "tab:orange", "behaviour policy"),
        (greedy, "tab:blue", "greedy policy"),
    ):
        mean, lower, upper = mean_interval(scores)
        regrets.plot(steps, mean, color=color, label=f"{label}, mean")
        band: Any = {"color": color, "alpha": 0.25, "linewidth": 0}
        regrets.fill_between(steps, lower, upper, **band)
        # A behaviour that has found the cliff may cost far more at first than anything
        # later, which the picture is of.
        seen = mean[len(mean) // 10 :] if label == "behaviour policy" else mean
        highest = max(highest, float(np.max(seen[np.isfinite(seen)], initial=0.0)))
    middle = np.quantile(np.asarray(greedy), [0.05, 0.95], axis=0)
    style: Any = {"color": "tab:blue", "alpha": 0.1, "linewidth": 0}
    regrets.fill_between(steps, *middle, label="greedy, middle 90 % of seeds", **style)
    regrets.set(
        title="exact regret J(π*) − J(π)",
        xlabel="environment steps per seed",
        xlim=(0, steps[-1]),
        ylim=(0, 1.15 * highest) if highest else None,
    )
    regrets.title.set_fontsize(11)
    regrets.xaxis.set_major_formatter(EngFormatter(sep=""))
    regrets.grid(alpha=0.3)
    regrets.legend(frameon=False)
    figure.savefig(path, dpi=150)


class Alignment(NamedTuple):
    """Exact KL(π‖π_ref) and expected rewards of policies, two arrays of one shape."""

    kl: Any
    """In nats."""
    reward: Any
    """E_π[r]."""


def save_alignment(
    path: str | os.PathLike[str],
    frontier: Alignment,
    runs: Mapping[str, Alignment],
    gaps: Mapping[str, Any],
    proxy: tuple[Alignment, Alignment],
    proxy_runs: tuple[Alignment, Alignment],
    *,
    prices: Mapping[float, tuple[float, float]],
    title: str,
) -> None:
    """Draws the reward of policies against their KL to a picture file, in three panels.

    The first panel shows reward against KL of every run, with the exact Pareto
    frontier. The second shows the relative gap to the optimum over updates, as the
    median and the range over runs. The third shows over-optimisation of learned
    rewards: proxy and true reward against KL, of the exact optima for the proxies and
    of runs trained on them.

    Args:
      path: file to write; its ending chooses the format.
      frontier: [K] the exact optima.
      runs: the runs of each algorithm after training, [num_runs].
      gaps: the relative gaps of each algorithm, [num_runs, num_updates].
      proxy: the exact optima for the proxies, [num_proxies, K]: once with the proxies'
        rewards, once with the true one.
      proxy_runs: the same for runs that were trained on the proxies, in any shape.
      prices: for each β, the point (KL, reward) of its exact optimum.
      title: heading.
    """
    from matplotlib.figure import Figure

    path = checks.path("path", path)
    checks.instance("runs", runs, Mapping, "{'PPO': Alignment(kl, reward)}")
    checks.instance("prices", prices, Mapping, "{0.1: (kl, reward)}")
    _check_names("gaps", gaps, runs)
    points = {"frontier": [frontier], "proxy": proxy, "proxy_runs": proxy_runs}
    for name, several in {**points, "runs": list(runs.values())}.items():
        for one in several if isinstance(several, tuple | list) else [several]:
            checks.instance(name, one, Alignment, "plotting.Alignment(kl, reward)")
    if len(proxy) != 2 or len(proxy_runs) != 2:
        raise ValueError(
            "proxy and proxy_runs must be pairs, with the proxies' rewards and with "
            f"the true one, got {len(proxy)} and {len(proxy_runs)}."
        )
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    figure.suptitle(title)
    pareto, learning, over = figure.subplots(1, 3)
    pareto.plot(*frontier, color="black", linewidth=1, label="exact frontier")
    for price, (kl, reward) in prices.items():
        pareto.plot(kl, reward, "+", color="black", markersize=12)
        text: Any = {"textcoords": "offset points", "fontsize": 8, "ha": "right"}
        pareto.annotate(f"β = {price:g}", (kl, reward), xytext=(-6, 6), **text)
    for i, (name, points) in enumerate(runs.items()):
        style: Any = {"marker": "osD^vP*X"[i % 8], "linestyle": "", "alpha": 0.6}
        pareto.plot(*points, color=f"C{i}", markersize=5, label=name, **style)
        gap = np.maximum(np.asarray(gaps[name]), 1e-5)
        updates = np.arange(1, gap.shape[1] + 1)
        learning.plot(updates, np.median(gap, axis=0), color=f"C{i}", label=name)
        band: Any = {"color": f"C{i}", "alpha": 0.12, "linewidth": 0}
        learning.fill_between(updates, gap.min(axis=0), gap.max(axis=0), **band)
    learning.axhline(0.02, color="black", linestyle=":", linewidth=1)
    for kind, color, exact, trained in zip(
        ("proxy", "true"), ("tab:orange", "tab:blue"), proxy, proxy_runs, strict=True
    ):
        kl, reward = (np.asarray(x) for x in exact)
        over.plot(kl.T, reward.T, color=color, linewidth=0.6, alpha=0.5)
        style = {"color": color, "linewidth": 2.5}
        over.plot(kl.mean(0), reward.mean(0), label=f"{kind}, mean of optima", **style)
        points = (np.ravel(x) for x in trained)
        over.plot(*points, "o", color=color, alpha=0.4, label=f"{kind}, a run")
    pareto.set(title="reward against KL", ylabel="E[r]")
    pareto.margins(x=0.12)  # room for the prices' names
    over.set(title="learned rewards against the true one", ylabel="E[reward]")
    for axes in (pareto, over):
        axes.set_xlabel("KL(π‖π_ref), nats per sequence")
    learning.set(
        title="gap to the optimum, median and range",
        xlabel="updates",
        ylabel="(J(π*) − J(π)) / |J(π*)|",
        yscale="log",
    )
    for axes in (pareto, learning, over):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def _check_names(label: str, values: Any, others: Mapping[str, Any]) -> None:
    """Raises ValueError unless `values` has an entry for each of the other names."""
    if not isinstance(values, Mapping) or not set(values) >= set(others):
        raise ValueError(
            f"{label} must be a dictionary with {', '.join(map(repr, others))}, got "
            f"{values!r}."
        )


_CELLS = {"G": "#3a923a", "P": "#8c2d2d", "C": "#8c2d2d", "#": "0.3"}
"""Colours of goals, of pits and cliffs, and of walls."""
_MOST_NUMBERS = 8
"""Rows or columns of a grid whose cells have room for their values."""


def _draw_grid(
    axes: Any,
    grid: GridWorld,
    values: np.ndarray,
    policy: np.ndarray,
    limits: tuple[Any, Any],
) -> Any:
    """Draws values as colours and numbers, and actions as arrows; returns the image.

    Cells where nobody acts have colours of their own, and their letters but for walls.
    The start has a frame.
    """
    from matplotlib.patches import Rectangle

    cells = np.array([list(row) for row in grid.layout])
    shown = np.ma.masked_where(np.isin(cells, list(_CELLS)), values.reshape(grid.shape))
    image = axes.imshow(shown, vmin=limits[0], vmax=limits[1], cmap="cividis")
    largest = max(grid.shape)
    for (row, column), cell in np.ndenumerate(cells):
        corner = column - 0.5, row - 0.5
        if cell in _CELLS:
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=_CELLS[cell]))
        # Dark letters on light cells, and light ones on dark.
        light = cell not in _CELLS and image.norm(shown[row, column]) > 0.55
        style: Any = {"ha": "center", "va": "center"}
        style["color"] = "black" if light else "white"
        action = ARROWS[policy[row * grid.shape[1] + column]]
        text = "" if cell == "#" else cell if cell in _CELLS else action
        up = 0.12 if cell not in _CELLS and largest <= _MOST_NUMBERS else 0.0
        size = min(15.0, 110 / largest)
        axes.text(column, row - up, text, fontsize=size, **style)
        if up:
            number = f"{values[row * grid.shape[1] + column]:.2f}"
            axes.text(column, row + 0.28, number, fontsize=0.5 * size, **style)
        if cell == "A":
            frame: Any = {"fill": False, "edgecolor": "tab:red", "linewidth": 2}
            inside = column - 0.46, row - 0.46
            axes.add_patch(Rectangle(inside, 0.92, 0.92, **frame))
    axes.set(xticks=[], yticks=[])
    return image
