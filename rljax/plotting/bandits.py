"""Regret of exploration rules on bandits."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rljax import checks
from rljax.experiment.statistics import mean_interval
from rljax.plotting import figures
from rljax.tabular.bandits import BanditCurves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BOUND = "Lai–Robbins, each arm's term at most Δ·t"


def bandit_regret(
    curves: BanditCurves | Mapping[str, BanditCurves],
    labels: Mapping[str, Sequence[str]] | None = None,
    *,
    lower_bound: Any = None,
    ax: "Axes | None" = None,
) -> "Figure":
    """Draws the expected regret of exploration rules over pulls.

    Of each rule it shows the best setting, that with the least expected regret at the
    end, as the mean over bandits with its pointwise 95 % interval.

    Args:
      curves: the curves of each rule, from `bandits.compare_bandits`, or of one.
      labels: the names of each rule's settings; None: the rules alone are named.
      lower_bound: [K] least expected regret at the curves' times; None: not drawn.
      ax: Matplotlib axes to draw in; None: those of a new figure.

    Returns:
      The Matplotlib figure.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
      ImportError: Matplotlib is missing; the message names the extra.
    """
    if isinstance(curves, BanditCurves):
        curves = {"expected regret": curves}
    _check(curves, labels, lower_bound)
    figure, axes = figures.panel(ax, 8, 4.5)
    _draw_regret(axes, curves, labels, lower_bound)
    axes.legend(loc="best", frameon=False)
    return figure


def save_bandit_curves(
    path: str | os.PathLike[str],
    curves: Mapping[str, BanditCurves],
    labels: Mapping[str, Sequence[str]],
    *,
    title: str,
    lower_bound: Any = None,
) -> None:
    """Writes the regret of exploration rules over pulls to a picture file.

    Two panels show the expected regret, as `bandit_regret` draws it, and the share of
    optimal pulls of each rule's best setting. The third shows the expected regret at
    the end of every setting, the best on top. All are means over bandits with pointwise
    95 % intervals.

    Args:
      path: file to write; its ending chooses the format.
      curves: the curves of each rule, from `bandits.compare_bandits`.
      labels: the names of each rule's settings.
      title: heading.
      lower_bound: [K] least expected regret at the curves' times; None: not drawn.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    path = checks.path("path", path)
    _check(curves, labels, lower_bound)
    figures.check_names("labels", labels, curves)
    figure = figures.new(13, 8)
    figure.suptitle(title)
    panels: Any = [["expected", "settings"], ["optimal", "settings"]]
    axes_of = figure.subplot_mosaic(panels, width_ratios=[1.3, 1])
    expected, optimal, settings = (
        axes_of[name] for name in ("expected", "optimal", "settings")
    )
    _draw_regret(expected, curves, labels, lower_bound)
    shares = {
        name: 100
        * np.diff(curve.optimal_pulls, axis=-1, prepend=0)
        / np.diff(curve.pulls, prepend=0)
        for name, curve in curves.items()
    }
    _draw_best(optimal, curves, labels, shares)
    _draw_ends(settings, curves, labels)
    if lower_bound is not None:
        settings.axvline(lower_bound[-1], color="black", linestyle="--")
    expected.set(title="each rule's best setting")
    optimal.set(ylabel="optimal pulls, %", xlabel="pulls", ylim=(0, 100))
    settings.set(title="all settings", xlabel="expected regret at the end")
    for axes in (expected, optimal, settings):
        axes.title.set_fontsize(11)
        axes.grid(alpha=0.3)
    handles, names = expected.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=figures.DPI)


def _check(curves: Any, labels: Any, lower_bound: Any) -> None:
    checks.instance("curves", curves, Mapping, "bandits.compare_bandits returns")
    if not curves:
        raise ValueError("curves must have a rule at least, got {}.")
    for name, curve in curves.items():
        checks.instance(f"curves[{name!r}]", curve, BanditCurves, "those")
        if lower_bound is not None:
            checks.same_shape(lower_bound=lower_bound, pulls=curve.pulls)
    if labels is not None:
        figures.check_names("labels", labels, curves)


def _name(labels: Any, rule: str, setting: int) -> str:
    return rule if labels is None else f"{rule}, {labels[rule][setting]}"


def _draw_regret(axes: Any, curves: Any, labels: Any, lower_bound: Any) -> None:
    regrets = {name: curve.expected_regret for name, curve in curves.items()}
    _draw_best(axes, curves, labels, regrets)
    if lower_bound is not None:
        pulls = next(iter(curves.values())).pulls
        style: Any = {"color": "black", "linestyle": "--"}
        axes.plot(pulls, lower_bound, label=_BOUND, **style)
    axes.set(ylabel="expected regret", xlabel="pulls", yscale="log")
    figures.count_on_log_scale(axes.yaxis)
    axes.grid(alpha=0.3)


def _draw_best(axes: Any, curves: Any, labels: Any, scores: Any) -> None:
    """Scores [B, G, K] of each rule's best setting over pulls."""
    for i, (name, curve) in enumerate(curves.items()):
        best = int(np.argmin(curve.expected_regret[..., -1].mean(0)))
        mean, low, high = mean_interval(scores[name][:, best])
        axes.plot(
            curve.pulls, mean, label=_name(labels, name, best), **figures.style(i)
        )
        figures.band(axes, curve.pulls, low, high, color=figures.color(i))


def _draw_ends(axes: Any, curves: Any, labels: Any) -> None:
    """Every setting's expected regret at the end."""
    ends = []  # (mean, low, high, name, colour)
    for i, (name, curve) in enumerate(curves.items()):
        mean, low, high = mean_interval(curve.expected_regret[..., -1])
        names = [_name(labels, name, setting) for setting in range(len(mean))]
        colors = [figures.color(i)] * len(mean)
        ends += zip(mean, low, high, names, colors, strict=True)
    ends.sort(reverse=True, key=lambda end: end[0])
    for y, (mean, low, high, _, color) in enumerate(ends):
        bars = [[mean - low], [high - mean]]
        axes.errorbar([mean], [y], xerr=bars, color=color, fmt="o", capsize=3)
    axes.set_yticks(range(len(ends)), [name for *_, name, _ in ends], fontsize=9)
    axes.set(xscale="log", ylim=(-0.7, len(ends) - 0.3))
    figures.count_on_log_scale(axes.xaxis)
