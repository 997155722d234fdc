"""The settings of a sweep beside each other."""

import os
from typing import TYPE_CHECKING

import numpy as np

from rljax import checks
from rljax.experiment.results import SweepResult
from rljax.plotting import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def sweep_scores(result: SweepResult, *, ax: "Axes | None" = None) -> "Figure":
    """Draws every setting's scores, the best setting on top.

    It shows a dot per seed, the interquartile mean over seeds, and its 95 % bootstrap
    interval. A run that broke has no dot and counts as −∞; an interval that reaches −∞
    is drawn as far as the lowest score.

    Args:
      result: of a sweep.
      ax: Matplotlib axes to draw in; None: those of a new figure.

    Returns:
      The Matplotlib figure.

    Raises:
      TypeError: an argument is wrong; the message names it.
      ImportError: Matplotlib is missing; the message names the extra.
    """
    checks.instance("result", result, SweepResult, "rljax.sweep returns")
    rows = result.summary()
    # Of equal ones the first is the best, as in `SweepResult.best`.
    middle = np.nan_to_num([row["iqm"] for row in rows], nan=-np.inf)
    order = sorted(range(len(rows)), key=lambda i: (middle[i], -i))
    finite = result.scores[np.isfinite(result.scores)]
    lowest = finite.min() if finite.size else 0.0
    figure, axes = figures.panel(ax, 8, 1.5 + 0.35 * len(rows))
    for y, i in enumerate(order):
        scores = result.outcomes[i].scores
        seen = scores[np.isfinite(scores)]
        axes.plot(seen, np.full(seen.size, y), ".", color=figures.GREY, alpha=0.5)
        if np.isfinite(rows[i]["iqm"]):
            ends = np.maximum([rows[i]["iqm_low"], rows[i]["iqm_high"]], lowest)
            axes.plot(ends, [y, y], color=figures.BLUE, linewidth=3, alpha=0.4)
            axes.plot(rows[i]["iqm"], y, "o", color=figures.BLUE)
    axes.plot([], [], "o-", color=figures.BLUE, label="IQM, 95 % bootstrap interval")
    axes.plot([], [], ".", color=figures.GREY, label="one seed")

    def name(i):
        broken = rows[i]["num_broken"]
        return result.outcomes[i].label + (f" ({broken} broken)" if broken else "")

    axes.set(xlabel="mean return", ylim=(-0.5, len(rows) - 0.5))
    axes.set_yticks(range(len(rows)), [name(i) for i in order])
    axes.grid(alpha=0.3)
    if ax is None:
        figure.legend(loc="outside lower right", ncols=2, frameon=False)
    else:
        axes.legend(loc="best", frameon=False)
    return figure


def save_sweep(
    path: str | os.PathLike[str], result: SweepResult, *, title: str
) -> None:
    """Writes the `sweep_scores`, with a title, to a picture file.

    Args:
      path: file to write; its ending chooses the format.
      result: of a sweep.
      title: heading.

    Raises:
      TypeError: an argument is wrong; the message names it.
    """
    path = checks.path("path", path)
    figure = sweep_scores(result)
    figure.axes[0].set_title(title)
    figure.savefig(path, dpi=figures.DPI)
