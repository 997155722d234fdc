"""How scores depend on one field of a sweep."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rljax.experiment import selection
from rljax.experiment.results import SweepResult
from rljax.experiment.settings import text
from rljax.plotting import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def sensitivity(
    result: SweepResult,
    name: str,
    *,
    per: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Figure":
    """Draws scores over the values of one field, all others at their best.

    It shows the interquartile mean over seeds of the best setting at each value, with
    its 95 % bootstrap interval, see `rljax.experiment.sensitivity`. The axis is
    logarithmic for positive numbers that span a factor of 5 or more; values that are no
    numbers stand side by side.

    Args:
      result, name, per: as of `rljax.experiment.sensitivity`.
      ax: Matplotlib axes to draw in; None: those of a new figure.

    Returns:
      The Matplotlib figure.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
      ImportError: Matplotlib is missing; the message names the extra.
    """
    curves = selection.sensitivity(result, name, per=per)
    values = [value for curve in curves.values() for value in curve.values]
    numeric = all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in values
    )
    places = {value: i for i, value in enumerate(dict.fromkeys(map(text, values)))}
    figure, axes = figures.panel(ax, 6, 4)
    for i, (label, curve) in enumerate(curves.items()):
        at = np.array(
            [value if numeric else places[text(value)] for value in curve.values], float
        )
        order = np.argsort(at)
        style = figures.style(i) | {"marker": "o"}
        axes.plot(at[order], curve.iqm[order], label=label or "IQM", **style)
        ends = curve.low[order], curve.high[order]
        figures.band(axes, at[order], *ends, color=figures.color(i))
    if not numeric:
        axes.set_xticks(range(len(places)), list(places))
    elif min(values) > 0 and max(values) >= 5 * min(values):
        axes.set_xscale("log")
    axes.set(xlabel=name, ylabel="mean return")
    axes.grid(alpha=0.3)
    heading = "IQM, 95 % bootstrap interval"
    axes.legend(loc="best", frameon=False, title=heading, alignment="left")
    return figure
