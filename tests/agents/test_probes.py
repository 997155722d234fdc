"""Every agent on the probes that it should solve. The probe that fails is the cause."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from tests import probes

DISCOUNT = 0.9
COMMON = {"num_envs": 16, "discount": DISCOUNT, "hidden_sizes": (16,)}
PPO = rljax.PPO(
    **COMMON, rollout_length=8, num_minibatches=2, learning_rate=5e-3, gae_lambda=0.9
)
ACTOR_CRITIC = rljax.ActorCritic(**COMMON, rollout_length=8, learning_rate=1e-2)
REINFORCE = rljax.Reinforce(**COMMON, rollout_length=3, learning_rate=1e-2)

CRITICS = pytest.mark.parametrize("agent", [PPO, ACTOR_CRITIC], ids=["ppo", "ac"])
ACTORS = pytest.mark.parametrize(
    "agent", [PPO, ACTOR_CRITIC, REINFORCE], ids=["ppo", "ac", "reinforce"]
)


@functools.cache
def trained(agent, env, num_updates=250):
    state, metrics = rljax.train(agent, env, jax.random.key(0), num_updates=num_updates)
    return state.agent_state, metrics


def values(agent, env, observations):
    state, _ = trained(agent, env)
    return [float(agent.value(state, jnp.array([obs]))) for obs in observations]


@pytest.mark.slow
@CRITICS
def test_value_of_a_constant(agent):
    np.testing.assert_allclose(values(agent, probes.OneStep(), [0.0]), 1, atol=0.03)


@pytest.mark.slow
@CRITICS
def test_value_depends_on_the_observation(agent):
    out = values(agent, probes.ObsDependent(), [-1.0, 1.0])
    np.testing.assert_allclose(out, [-1, 1], atol=0.05)


@pytest.mark.parametrize(
    "agent",
    [PPO, pytest.param(ACTOR_CRITIC, marks=pytest.mark.slow)],
    ids=["ppo", "ac"],
)
def test_value_is_discounted(agent):
    out = values(agent, probes.TwoSteps(), [0.0, 1.0])
    np.testing.assert_allclose(out, [DISCOUNT, 1], atol=0.05)


@pytest.mark.slow
@ACTORS
def test_policy_finds_the_better_action(agent):
    state, metrics = trained(agent, probes.ActionDependent())
    assert agent.greedy(state, jnp.array([0.0])) == 1
    assert metrics.episode_return[-1] > 0.9


@pytest.mark.slow
@ACTORS
def test_policy_depends_on_the_observation(agent):
    state, metrics = trained(agent, probes.ObsActionDependent())
    assert agent.greedy(state, jnp.array([-1.0])) == 0
    assert agent.greedy(state, jnp.array([1.0])) == 1
    assert metrics.episode_return[-1] > 0.9


ENDLESS = rljax.TimeLimit(probes.Endless(), 5)
TRUE_VALUE = 1 / (1 - DISCOUNT)


@pytest.mark.slow
@CRITICS
def test_value_under_a_time_limit_is_bootstrapped(agent):
    # Cut, the value would be (1 − γ^k) / (1 − γ), at most 4.1 with 5 steps to go.
    state, _ = trained(agent, ENDLESS, 1000)
    value = agent.value(state, jnp.array([1.0]))
    np.testing.assert_allclose(value, TRUE_VALUE, rtol=0.03)


def test_time_limit_can_count_as_termination():
    # The mean over a cycle of 5 steps of the cut values: what the wrong rule learns.
    agent = rljax.PPO(
        **COMMON,
        rollout_length=10,
        num_minibatches=2,
        learning_rate=5e-3,
        gae_lambda=1.0,
        time_limit_is_termination=True,
    )
    state, _ = trained(agent, ENDLESS)
    cut = np.mean([(1 - DISCOUNT**k) / (1 - DISCOUNT) for k in range(1, 6)])
    value = agent.value(state, jnp.array([1.0]))
    np.testing.assert_allclose(value, cut, rtol=0.05)


def test_a_batch_of_one_step_still_learns_from_its_return():
    # Shifted by its own mean, a single return would be 0 in each update.
    agent = rljax.Reinforce(
        num_envs=1,
        rollout_length=2,
        hidden_sizes=(16,),
        learning_rate=1e-2,
        normalize_returns=True,
    )
    state, _ = trained(agent, probes.ActionDependent())
    assert agent.greedy(state, jnp.array([0.0])) == 1


def test_training_on_beginnings_of_episodes_alone_is_said():
    agent = rljax.Reinforce(num_envs=2, rollout_length=4, hidden_sizes=(4,))
    with pytest.warns(UserWarning, match=r"no episode ended .*rollout_length = 4"):
        rljax.train(agent, ENDLESS, jax.random.key(0), num_updates=2)
    with pytest.warns(UserWarning, match="in setting 'default' no episode ended"):
        rljax.sweep(agent, ENDLESS, jax.random.key(0), num_seeds=1, num_updates=1)
