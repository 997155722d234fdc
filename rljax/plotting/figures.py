"""What all plots share: where they are drawn, and in which colours."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rljax import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE = "#0072b2", "#d55e00"
GREY = "#7f7f7f"
# Okabe and Ito's, which the colour-blind tell apart, without the yellow.
_COLORS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LINES = ("-", "--", ":", "-.")
DPI = 150
"""Of pictures in files."""


def new(width: float, height: float) -> "Figure":
    """A figure of this size in inches. It needs no display and leaves no global state.

    Raises:
      ImportError: Matplotlib is missing; the message names the extra.
    """
    try:
        from rljax.plotting.shown import Figure
    except ImportError as error:
        raise ImportError(
            "plots need Matplotlib, which comes with an extra: pip install "
            "'rljax-core[plot]'."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def panel(ax: "Axes | None", width: float, height: float) -> tuple[Any, Any]:
    """(figure, axes) to draw in: those of `ax`, or new ones of this size in inches.

    Raises:
      ImportError: Matplotlib is missing; the message names the extra.
      TypeError: `ax` is not Matplotlib's.
    """
    figure = new(width, height)
    if ax is None:
        return figure, figure.subplots()
    from matplotlib.axes import Axes

    checks.instance("ax", ax, Axes, "figure.subplots() returns")
    return ax.get_figure(), ax


def style(i: int) -> dict[str, Any]:
    """Colour and kind of line of the i-th of several."""
    lines = _LINES[i // len(_COLORS) % len(_LINES)]
    return {"color": color(i), "linestyle": lines}


def color(i: int) -> str:
    """The colour of the i-th of several."""
    return _COLORS[i % len(_COLORS)]


def band(
    axes: Any,
    x: Any,
    low: Any,
    high: Any,
    *,
    color: str,
    alpha: float = 0.2,
    label: str | None = None,
) -> None:
    """Fills between two curves."""
    style: Any = {"color": color, "alpha": alpha, "linewidth": 0}
    axes.fill_between(x, low, high, label=label, **style)


def count_steps(axes: Any, steps: Any, label: str) -> None:
    """Numbers of environment steps along the x-axis, with k and M for the large."""
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, max(float(np.max(steps)), 1e-9))
    axes.grid(alpha=0.3)


def count_on_log_scale(axis: Any) -> None:
    """A logarithmic axis with plain numbers: 1, 2, 5, 10, 20 …"""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def check_names(label: str, values: Any, others: Mapping[str, Any]) -> None:
    """Raises ValueError unless `values` has an entry for each of the other names."""
    if not isinstance(values, Mapping) or not set(values) >= set(others):
        raise ValueError(
            f"{label} must be a dictionary with {', '.join(map(repr, others))}, got "
            f"{values!r}."
        )
