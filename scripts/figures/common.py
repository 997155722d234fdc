"""What a figure is: curves with their intervals, a picture, and what the book says."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from rljax.plotting import figures

CONFIDENCE = 0.999
"""Of the intervals that decide about statements: p < 0.001. Curves show 95 %."""


class Curve(NamedTuple):
    """A curve with the 95 % interval of each point, all [K]; numbers that are exact
    have an interval without width."""

    name: str
    x: Any
    y: Any
    low: Any
    high: Any


class Statement(NamedTuple):
    """What the book or the theory says, and what was measured."""

    text: str
    value: float
    low: float
    """Lower end of the 99.9 % interval, or of what counts as equal."""
    high: float
    num: int
    """Independent runs; 0 where nothing was drawn."""
    holds: bool


class Drawn(NamedTuple):
    """A figure as it came out."""

    panels: Mapping[str, list[Curve]]
    """What is in the CSV, by the panel's title."""
    statements: list[Statement]
    picture: Any
    """A Matplotlib figure."""


class Figure(NamedTuple):
    """A figure of the book."""

    number: str
    title: str
    draw: Callable[..., Drawn]
    """A function of `quick`: whether fewer runs will do."""


# Curves.


def mean_curve(name: str, x: Any, samples: Any) -> Curve:
    """The mean of independent runs, samples [N, K], with its 95 % interval."""
    samples = np.asarray(samples, float)
    mean = samples.mean(0)
    half = 1.96 * samples.std(0, ddof=1) / math.sqrt(len(samples))
    return Curve(name, np.asarray(x), mean, mean - half, mean + half)


def exact_curve(name: str, x: Any, y: Any) -> Curve:
    """A curve that was computed, not sampled."""
    y = np.asarray(y, float)
    return Curve(name, np.asarray(x), y, y, y)


def grid(name: str, values: Any) -> Curve:
    """Numbers [H, W] that a table or a map shows; x counts row by row."""
    values = np.asarray(values, float)
    return exact_curve(name, np.arange(values.size), values.ravel())


def plot(
    panels: Mapping[str, Iterable[Curve]],
    xlabel: str,
    ylabel: str,
    *,
    width: float = 4.6,
    height: float = 3.2,
    **axes_settings: Any,
) -> Any:
    """One axes for each panel, side by side, each curve with its band.

    Args:
      panels: the curves by the panel's title.
      xlabel, ylabel: of all axes.
      width, height: of one axes, in inches.
      axes_settings: for Matplotlib's `Axes.set`: ylim, xscale …
    """
    picture = figures.new(width * len(panels), height)
    all_axes = np.ravel(picture.subplots(1, len(panels)))
    for axes, (title, curves) in zip(all_axes, panels.items(), strict=True):
        for i, curve in enumerate(curves):
            axes.plot(curve.x, curve.y, label=curve.name, lw=1.2, **figures.style(i))
            if not np.array_equal(curve.low, curve.high):
                color = figures.color(i)
                figures.band(axes, curve.x, curve.low, curve.high, color=color)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel, **axes_settings)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return picture


# Statements.


def above(text: str, samples: Any, threshold: float = 0.0) -> Statement:
    """That the mean of independent samples [N] is above a threshold; of bool ones, the
    share. For two methods on the same problems, give their differences."""
    value, low, high = _interval(samples)
    return Statement(text, value, low, high, len(samples), low > threshold)


def below(text: str, samples: Any, threshold: float) -> Statement:
    """That the mean of independent samples [N] is below a threshold."""
    value, low, high = _interval(samples)
    return Statement(text, value, low, high, len(samples), high < threshold)


def larger(text: str, first: Any, second: Any) -> Statement:
    """That the mean of samples [N] is above that of other samples [M], by Welch."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    test = stats.ttest_ind(first, second, equal_var=False)
    low, high = map(float, test.confidence_interval(CONFIDENCE))
    value = float(first.mean() - second.mean())
    return Statement(text, value, low, high, len(first), low > 0)


def covers(text: str, samples: Any, exact: float) -> Statement:
    """That the mean of independent samples [N] is this number."""
    value, low, high = _interval(samples)
    return Statement(text, value, low, high, len(samples), low <= exact <= high)


def equal(text: str, found: Any, exact: Any, tolerance: float) -> Statement:
    """That computed numbers are these; the value is the largest difference."""
    error = float(np.abs(np.asarray(found, float) - np.asarray(exact, float)).max())
    return Statement(text, error, 0.0, tolerance, 0, error <= tolerance)


def _interval(samples: Any) -> tuple[float, float, float]:
    """(mean, lower end, upper end) by Student's t; of bool samples Wilson's, which has
    a width even where all of them are alike."""
    samples, number = np.asarray(samples), len(samples)
    mean, level = float(samples.mean()), (1 + CONFIDENCE) / 2
    if samples.dtype == bool:
        test = stats.binomtest(int(samples.sum()), number)
        ends = test.proportion_ci(CONFIDENCE, "wilson")
        return mean, float(ends.low), float(ends.high)
    error = samples.std(ddof=1, dtype=float) / math.sqrt(number)
    half = float(stats.t.ppf(level, number - 1) * error)
    return mean, mean - half, mean + half
