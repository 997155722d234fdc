"""The evidence that the agents learn: many seeds to the end, evaluated greedily."""

import jax
import numpy as np
import pytest
from scipy import stats

import rljax
from rljax import metrics, parallel
from rljax.agents.ppo import purejaxrl_settings

ENV = rljax.make("CartPole-v1")


def greedy_returns(agent, num_updates, num_seeds):
    def run(key):
        key_train, key_evaluate = jax.random.split(key)
        state, _ = rljax.train(agent, ENV, key_train, num_updates=num_updates)
        evaluation = rljax.evaluate(
            agent, state.agent_state, ENV, key_evaluate, num_episodes=100
        )
        return evaluation.episode_returns.mean()

    keys = jax.random.split(jax.random.key(0), num_seeds)
    return np.asarray(parallel.map_seeds(run)(keys))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "num_updates", "threshold", "needed", "num_seeds"),
    [
        pytest.param(rljax.PPO(), 200, 475, 19, 20, id="PPO"),
        pytest.param(purejaxrl_settings(), 976, 475, 19, 20, id="PPO as PureJaxRL"),
        pytest.param(rljax.ActorCritic(), 200, 450, 8, 10, id="ActorCritic"),
        pytest.param(rljax.Reinforce(), 200, 450, 8, 10, id="Reinforce"),
    ],
)
def test_cartpole_is_solved(
    agent, num_updates, threshold, needed, num_seeds, record_property, request
):
    scores = greedy_returns(agent, num_updates, num_seeds)
    solved = int((scores >= threshold).sum())
    share = stats.binomtest(solved, num_seeds).proportion_ci(method="wilson")
    low, high = metrics.bootstrap_interval(scores)
    record_property(
        "evidence",
        f"{request.node.callspec.id}: {solved} of {num_seeds} seeds at {threshold} or "
        f"more (95 % interval of the share {share.low:.2f} to {share.high:.2f}); "
        f"lowest {scores.min():.1f}, IQM {metrics.interquartile_mean(scores):.1f} "
        f"[{low:.1f}, {high:.1f}], "
        f"{num_updates * agent.num_envs * agent.rollout_length:,} steps a seed",
    )
    assert solved >= needed
