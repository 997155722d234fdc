"""Chapter 2: bandits of ten arms."""

from typing import Any

import jax
import numpy as np

import rljax
from figures import common
from rljax import bandits, exploration

NUM_PULLS = 1000
SHOWN = np.r_[:100, 109:NUM_PULLS:10]
"""The pulls in pictures and CSV files, from 0: the first hundred, then every tenth."""


def _play(agents: dict[str, Any], quick: bool) -> dict[str, Any]:
    """Expected rewards [B, T] and optimal pulls [B, T] by name, on the same bandits."""
    curves, means = bandits.compare_bandits(
        {name: [agent] for name, agent in agents.items()},
        rljax.GaussianBandit(10, mean_scale=1.0, noise_scale=1.0),
        jax.random.key(0),
        num_bandits=500 if quick else 4000,
        num_pulls=NUM_PULLS,
        num_points=NUM_PULLS,
    )
    best = means.max(1)[:, None]

    def per_pull(sums):
        return np.diff(sums[:, 0], axis=1, prepend=0)

    return {
        name: (best - per_pull(curve.expected_regret), per_pull(curve.optimal_pulls))
        for name, curve in curves.items()
    }


def _greedy(epsilon: float, **fields: Any) -> rljax.QLearning:
    """An ε-greedy agent, with sample means unless the fields say otherwise."""
    settings: dict[str, Any] = {"step_size": None, "discount": 0.0} | fields
    return rljax.QLearning(exploration=exploration.EpsilonGreedy(epsilon), **settings)


def figure_2_2(*, quick: bool = False) -> common.Drawn:
    """ε-greedy with sample means, ε = 0, 0.01 and 0.1: reward and optimal actions."""
    played = _play({f"ε = {e:g}": _greedy(e) for e in (0.1, 0.01, 0.0)}, quick)
    panels = {
        title: [
            common.mean_curve(name, SHOWN + 1, samples[i][:, SHOWN])
            for name, samples in played.items()
        ]
        for i, title in enumerate(("expected reward", "share of optimal actions"))
    }
    (often, optimal), (rarely, _), (never, _) = played.values()
    statements = [
        common.above(
            "ε = 0.1 earns more than the greedy rule over pulls 901 to 1000",
            (often - never)[:, -100:].mean(1),
        ),
        common.above(
            "ε = 0.01 earns more than the greedy rule over pulls 901 to 1000",
            (rarely - never)[:, -100:].mean(1),
        ),
        common.above(
            "ε = 0.1 earns more than 0.01 over the first 250 pulls",
            (often - rarely)[:, :250].mean(1),
        ),
        common.above(
            "ε = 0.1 takes the best arm in more than 75 % of pulls 901 to 1000",
            optimal[:, -100:].mean(1),
            0.75,
        ),
    ]
    return common.Drawn(panels, statements, common.plot(panels, "pulls", ""))


FIGURES = [common.Figure("2.2", "ε-greedy rules on ten arms", figure_2_2)]
