"""REINFORCE has high variance."""

import numpy as np

from claimed import gradients
from claimed.common import Claim, Row, share_of

THRESHOLD = 0.75


def measure(*, quick: bool = False, num_episodes: float = 1.0) -> list[Row]:
    """The noise of one episode's gradient over its signal, at several horizons.

    Exact for random policies in random MDPs, from 4,000 episodes for each of 20 half
    trained policies on CartPole, without a baseline.

    Args:
      quick: whether 30 MDPs, 2,000 episodes and a case of each will do, of
        100, 4,000 and six.
      num_episodes: of which a gradient is the mean; of a million there is no noise.
    """
    horizons, limits = ((4,), (50,)) if quick else ((2, 4, 6), (25, 50, 200))
    exact = [gradients.enumerated(30 if quick else 100, steps) for steps in horizons]
    drawn, _ = gradients.sampled(20, 2000 if quick else 4000, limits, baselines=1)
    rows = []
    for where, steps, moments in (
        ("random MDPs", horizons, exact),
        ("CartPole", limits, drawn),
    ):
        noise = [m.noise[0] / num_episodes for m in moments]
        for i, m in enumerate(moments):
            case = f"{where}, {steps[i]} steps: {np.median(noise[i] / m.signal):.3g} ×"
            rows.append(share_of(case, noise[i] > m.signal, THRESHOLD))
        if len(steps) > 1:
            one, last = moments[0], moments[-1]
            more = noise[-1] * one.signal > one.noise[0] * last.signal
            case = f"{where}, more of it in {steps[-1]} steps than in {steps[0]}"
            rows.append(share_of(case, more, THRESHOLD))
    return rows


CLAIM = Claim(
    "variance",
    "REINFORCE has high variance.",
    "share of policies of which one episode's gradient has more noise than signal, tr "
    "Cov[g] > ‖∇J‖²; its median as a multiple",
    f"more than {THRESHOLD}",
    measure,
)
