"""Pictures of training. Needs matplotlib, from the `cli` extra."""

import os
from typing import Any

import numpy as np

from rljax.metrics import (
    bootstrap_interval,
    interquartile_mean,
    windowed_episode_returns,
)
from rljax.train import Metrics


def save_learning_curve(
    path: str | os.PathLike[str],
    metrics: Metrics,
    *,
    steps_per_update: int,
    title: str,
    num_windows: int = 60,
) -> None:
    """Draws the training return over environment steps to a picture file.

    One thin line per seed, the interquartile mean over seeds and its pointwise 95 %
    bootstrap interval. A point is the mean of all episodes that ended in a window of
    updates; where some seed had none, that seed is left out.

    Args:
      path: file to write; its ending chooses the format.
      metrics: leaves [num_seeds, num_updates].
      steps_per_update: environment steps of one update of one seed.
      title: heading.
      num_windows: points of the curve, at most.
    """
    # Not pyplot: a Figure of its own needs no display and leaves no global state.
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

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
