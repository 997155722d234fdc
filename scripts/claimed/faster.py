"""Actor-critic learns faster than REINFORCE."""

from typing import Any

import jax
import numpy as np

import rljax
from claimed.common import Claim, Row, difference_of
from rljax.experiment import confirm, statistics

RATES = (1e-3, 2.5e-3, 5e-3, 1e-2, 2e-2)
CRITICS: dict[str, Any] = {
    "actor-critic, λ = 1": {},
    "actor-critic, λ = 1, every 128 steps": {"rollout_length": 128},
    "actor-critic, λ = 0.95, every 128 steps": {
        "rollout_length": 128,
        "gae_lambda": 0.95,
    },
}


def measure(*, quick: bool = False, **fields: Any) -> list[Row]:
    """Both with the same network, the same steps, and step sizes tuned alike.

    Each agent's step size is chosen on tuning seeds, by the return in the last tenth of
    training; what counts is the return over the whole of it, on other seeds. With λ = 1
    the critic is a baseline, with less it also stands in for later rewards. REINFORCE
    learns from whole episodes of up to 500 steps, a critic need not wait for their end.

    Args:
      quick: whether two step sizes, 4 tuning seeds, 8 others and 100,000 steps will do,
        of five, 8, 64 and 200,000.
      **fields: of `ActorCritic`; a `gae_lambda` of 0 believes the critic alone.
    """
    num_tuning, num_others, num_steps = (4, 8, 100_000) if quick else (8, 64, 200_000)
    agents: dict[str, Any] = {
        name: rljax.ActorCritic(num_envs=8, **{**its, **fields})
        for name, its in ([*CRITICS.items()][1:2] if quick else CRITICS.items())
    }
    agents["REINFORCE"] = rljax.Reinforce(num_envs=8)
    result = rljax.sweep(
        agents,
        rljax.make("CartPole-v1"),
        jax.random.key(0),
        num_seeds=num_tuning,
        num_steps=num_steps,
        settings={"learning_rate": list(RATES[1:4:2] if quick else RATES)},
    )
    *chosen, other = confirm(result, num_seeds=num_others).result.outcomes
    rows = []
    for outcome in chosen:
        mine, its = area(outcome.metrics), area(other.metrics)
        case = (
            f"{outcome.setting['agent']}, at {outcome.setting['learning_rate']:g}: "
            f"{mine.mean():.0f}, REINFORCE at {other.setting['learning_rate']:g}: "
            f"{its.mean():.0f}"
        )
        rows.append(difference_of(case, mine, its))
    return rows


def area(metrics: rljax.Metrics) -> np.ndarray:
    """[num_seeds] mean over training of the episodes' returns in a tenth of it."""
    return statistics.windowed_episode_returns(metrics, 10)[1].mean(axis=1)


CLAIM = Claim(
    "faster",
    "Actor-critic learns faster than REINFORCE.",
    "mean return over the whole training, actor-critic's less REINFORCE's",
    "more than 0, CartPole-v1, step sizes tuned alike, judged on other seeds",
    measure,
)
