"""Learning curves: the return in training over many seeds."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from rljax import checks
from rljax.experiment.statistics import (
    bootstrap_interval,
    interquartile_mean,
    mean_interval,
    windowed_episode_returns,
)
from rljax.plotting import figures
from rljax.training import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STATISTICS = {
    "iqm": ("IQM", "95 % bootstrap interval"),
    "mean": ("mean", "95 % interval of the mean"),
}


def learning_curve(
    metrics: Metrics | Mapping[str, Metrics],
    *,
    steps_per_update: int | Mapping[str, int] | None = None,
    statistic: Literal["iqm", "mean"] = "iqm",
    num_windows: int = 60,
    ax: "Axes | None" = None,
) -> "Figure":
    """Draws the training return, of one run or of several to be compared.

    It shows the middle over seeds with its pointwise 95 % interval, and of a lone run a
    thin line per seed as well. A point is the mean of all episodes that ended in a
    window of updates. A seed with no such episode is left out of that window.

    Args:
      metrics: leaves [num_seeds, num_updates], or [num_updates] for one seed; or a
        dictionary of such, by the names in the legend.
      steps_per_update: environment steps of one update of one seed,
        `agent.steps_per_update`, for all or by name; None: counts updates instead.
      statistic: "iqm", the interquartile mean with its bootstrap interval, or "mean",
        with Student's interval.
      num_windows: points of the curve, at most.
      ax: Matplotlib axes to draw in; None: those of a new figure.

    Returns:
      The Matplotlib figure.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
      ImportError: Matplotlib is missing; the message names the extra.
    """
    runs = metrics if isinstance(metrics, Mapping) else {"": metrics}
    if not runs:
        raise ValueError("metrics must have a run at least, got {}.")
    if statistic not in _STATISTICS:
        raise ValueError(f"statistic must be 'iqm' or 'mean', got {statistic!r}.")
    steps = _steps_per_update(steps_per_update, runs)
    windows = {
        name: windowed_episode_returns(_with_seeds(name, run), num_windows)
        for name, run in runs.items()
    }
    figure, axes = figures.panel(ax, 8, 4.5)
    middle_name, band_name = _STATISTICS[statistic]
    lone = isinstance(metrics, Metrics)
    grey: Any = {"color": figures.GREY, "linewidth": 0.7}
    ends = [0.0]
    for i, (name, (updates, returns)) in enumerate(windows.items()):
        at, num_seeds = updates * steps[name], len(returns)
        if lone and num_seeds > 1:
            axes.plot(at, returns.T, alpha=0.6, **grey)
            name = f"{middle_name} of {num_seeds} seeds"
        middle, low, high = _middle(returns, statistic)
        axes.plot(at, middle, label=name or "one seed", **figures.style(i))
        if num_seeds > 1:
            label = band_name if lone else None
            figures.band(axes, at, low, high, color=figures.color(i), label=label)
            if lone:
                axes.plot([], [], label="one seed", **grey)
        ends.append(at[-1])
    label = "updates" if steps_per_update is None else "environment steps per seed"
    figures.count_steps(axes, ends, label)
    axes.set_ylabel("episode return in training")
    heading = None if lone else f"{middle_name}, {band_name}"
    axes.legend(loc="best", frameon=False, title=heading, alignment="left")
    return figure


def save_learning_curve(
    path: str | os.PathLike[str],
    metrics: Metrics,
    *,
    steps_per_update: int,
    title: str,
    num_windows: int = 60,
) -> None:
    """Writes the `learning_curve` of one run, with its title, to a picture file.

    Args:
      path: file to write; its ending chooses the format.
      metrics: leaves [num_seeds, num_updates].
      steps_per_update: environment steps of one update of one seed.
      title: heading.
      num_windows: points of the curve, at most.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    path = checks.path("path", path)
    checks.instance("metrics", metrics, Metrics, "rljax.train returns")
    figure = learning_curve(
        metrics, steps_per_update=steps_per_update, num_windows=num_windows
    )
    figure.axes[0].set_title(title)
    figure.savefig(path, dpi=figures.DPI)


def _steps_per_update(given: Any, runs: Mapping[str, Any]) -> dict[str, int]:
    if isinstance(given, Mapping):
        figures.check_names("steps_per_update", given, runs)
    each = given if isinstance(given, Mapping) else dict.fromkeys(runs, given)
    return {
        name: 1
        if each[name] is None
        else checks.integer("steps_per_update", each[name], minimum=1)
        for name in runs
    }


def _with_seeds(name: str, run: Any) -> Metrics:
    """The metrics with an axis of seeds, as those of one seed may have none."""
    label = f"metrics[{name!r}]" if name else "metrics"
    checks.instance(label, run, Metrics, "rljax.train returns")
    if np.ndim(run.num_episodes) == 1:
        return jax.tree.map(lambda x: np.asarray(x)[None], run)
    return run


def _middle(returns: np.ndarray, statistic: str) -> tuple[Any, Any, Any]:
    """The middle over seeds, [W], and the ends of its interval; NaN without a seed."""
    found = np.full((3, returns.shape[1]), np.nan)
    unseen = np.isnan(returns)
    # Windows in which the same seeds were seen are one call, as most are: a call takes
    # far longer than its arithmetic.
    for pattern in np.unique(unseen, axis=1).T:
        windows = (unseen == pattern[:, None]).all(0)
        seen = returns[~pattern][:, windows].T
        if not seen.size:
            continue
        if statistic == "mean":
            found[:, windows] = mean_interval(seen, axis=1)
        else:
            interval = bootstrap_interval(seen, num_resamples=500)
            found[:, windows] = interquartile_mean(seen), *interval
    return found[0], found[1], found[2]
