"""A value baseline keeps the expected gradient and cuts its variance."""

import numpy as np

from claimed import gradients
from claimed.common import Claim, Row, share_of

THRESHOLD = 0.75
EXACT = 1e-10
"""What rounding may do to an expected gradient, relative to its norm."""
SMALL = 0.1
"""‖bias‖² over ‖∇J‖² that counts as none where episodes are drawn."""


def measure(*, quick: bool = False, peek: float = 0.0) -> list[Row]:
    """The gradient of one episode, with baselines and without.

    Exact for random policies in random MDPs; from episodes for 20 half trained policies
    on CartPole, where mean return and V are fitted to others.

    Args:
      quick: whether 30 MDPs, 2,000 episodes and a horizon of each will do, of
        100, 4,000 and two.
      peek: added to all baselines where the action is 1.
    """
    horizons, limits = ((4,), (50,)) if quick else ((2, 6), (50, 200))
    rows = []
    for steps in horizons:
        found = gradients.enumerated(30 if quick else 100, steps, peek)
        kept = found.bias < EXACT**2 * found.signal
        off = np.sqrt(found.bias / found.signal).max(1)
        notes = [f"off by {x:.0e}" for x in off]
        case = f"random MDPs, {steps} steps"
        rows += _rows(case, gradients.BASELINES, found, kept, notes)
    drawn, errors = gradients.sampled(20, 2000 if quick else 4000, limits, peek=peek)
    for i, steps in enumerate(limits):
        kept = drawn[i].bias < SMALL * drawn[i].signal
        notes = [f"off by {x:.2g} standard errors" for x in errors[:, i].mean(0)]
        case = f"CartPole, {steps} steps"
        rows += _rows(case, gradients.SAMPLED, drawn[i], kept, notes)
    return rows


def _rows(case, names, found, kept, notes):
    rows = []
    for i in range(1, len(names)):
        ratio = np.median(found.noise[i] / found.noise[0])
        text = f"{names[i]}, {case}: noise × {ratio:.2f}, mean {notes[i]}"
        less = found.noise[i] < found.noise[0]
        rows.append(share_of(text, kept[i] & less, THRESHOLD))
    return rows


CLAIM = Claim(
    "baseline",
    "A value baseline keeps the expected gradient and cuts its variance.",
    "share of policies whose expected gradient it keeps, and whose noise it cuts",
    f"more than {THRESHOLD}",
    measure,
)
