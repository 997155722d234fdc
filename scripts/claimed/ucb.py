"""UCB typically wins on the bandit."""

import jax
import numpy as np

import rljax
from claimed.common import Claim, Row, share_of
from rljax import bandits, exploration

THRESHOLD = 0.5


def measure(*, quick: bool = False, bonus: float = 1.0) -> list[Row]:
    """Three rules on the same bandits, with the same noise at the k-th pull.

    Args:
      quick: whether 500 bandits will do, of 10,000.
      bonus: factor of UCB's c; with 8 it never settles.
    """
    rules = {
        "ε-greedy": [exploration.EpsilonGreedy(0.1), exploration.EpsilonGreedy(0.05)],
        "softmax": [exploration.Softmax(0.5), exploration.Softmax(0.25)],
        "UCB": [exploration.UCB(2.0 * bonus), exploration.UCB(0.25 * bonus)],
    }
    agents = {
        name: [
            rljax.QLearning(exploration=rule, step_size=None, discount=0.0)
            for rule in settings
        ]
        for name, settings in rules.items()
    }
    curves, _ = bandits.compare_bandits(
        agents,
        rljax.make("GaussianBandit-5"),
        jax.random.key(0),
        num_bandits=500 if quick else 10_000,
        num_pulls=1000,
        num_points=1,
    )
    ends = {name: curve.expected_regret[..., -1] for name, curve in curves.items()}
    others = np.minimum(ends["ε-greedy"], ends["softmax"])
    wins = ends["UCB"] < others
    return [
        share_of("ε = 0.1, τ = 0.5, c = 2, as published", wins[:, 0], THRESHOLD),
        share_of(
            "ε = 0.05, τ = 0.25, c = 0.25, each near its best", wins[:, 1], THRESHOLD
        ),
    ]


CLAIM = Claim(
    "ucb",
    "UCB typically wins on the bandit.",
    "share of bandits on which UCB has the least expected regret of the three rules",
    f"more than {THRESHOLD}, 1000 pulls of five arms N(1, 0.5²), noise 0.3",
    measure,
)
