"""The exact regret of tables in training."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from rljax import checks
from rljax.experiment.statistics import mean_interval
from rljax.plotting import figures
from rljax.tabular.regret import ExactReturns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def exact_regret(
    curve: ExactReturns,
    *,
    steps_per_update: int | None = None,
    ax: "Axes | None" = None,
) -> "Figure":
    """Draws the exact regret of the greedy and of the behaviour policy in training.

    It shows the mean over seeds with its pointwise 95 % interval, and of the greedy
    policy the range of the middle 90 % of seeds.

    Args:
      curve: from `regret.train_with_exact_returns`, leaves [K], or [num_seeds, K].
      steps_per_update: environment steps of one update of one seed,
        `agent.steps_per_update`; None: counts updates instead.
      ax: Matplotlib axes to draw in; None: those of a new figure.

    Returns:
      The Matplotlib figure.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
      ImportError: Matplotlib is missing; the message names the extra.
    """
    check(curve)
    per_update = 1
    if steps_per_update is not None:
        per_update = checks.integer("steps_per_update", steps_per_update, minimum=1)
    if np.ndim(curve.greedy) == 1:
        curve = jax.tree.map(lambda x: np.asarray(x)[None], curve)
    updates = np.asarray(curve.num_updates)
    steps = (updates[0] if updates.ndim > 1 else updates) * per_update
    label = "updates" if steps_per_update is None else "environment steps per seed"
    figure, axes = figures.panel(ax, 8, 4.5)
    draw(axes, curve, steps, label)
    axes.legend(loc="best", frameon=False)
    return figure


def check(curve: Any) -> None:
    """Raises TypeError unless these are exact returns."""
    checks.instance(
        "curve", curve, ExactReturns, "regret.train_with_exact_returns returns"
    )


def draw(axes: Any, curve: ExactReturns, steps: Any, label: str) -> None:
    """The regret of both policies, [num_seeds, K], over steps or updates."""
    behaviour, greedy = (
        np.asarray(x) for x in (curve.behaviour_regret, curve.greedy_regret)
    )
    highest = 0.0
    for scores, color, name in (
        (behaviour, figures.ORANGE, "behaviour policy"),
        (greedy, figures.BLUE, "greedy policy"),
    ):
        mean, lower, upper = mean_interval(scores)
        name = f"{name}, mean" if len(scores) > 1 else name
        axes.plot(steps, mean, color=color, label=name)
        figures.band(axes, steps, lower, upper, color=color, alpha=0.25)
        # A behaviour that has found the cliff may cost far more at first than anything
        # later, which the picture is of.
        seen = mean[len(mean) // 10 :] if scores is behaviour else mean
        highest = max(highest, float(np.max(seen[np.isfinite(seen)], initial=0.0)))
    if len(greedy) > 1:
        ends = np.quantile(greedy, [0.05, 0.95], axis=0)
        name = "greedy, middle 90 % of seeds"
        figures.band(axes, steps, *ends, color=figures.BLUE, alpha=0.1, label=name)
    figures.count_steps(axes, steps, label)
    axes.set_ylabel("J(π*) − J(π)")
    axes.set_ylim(0, 1.15 * highest if highest else None)
