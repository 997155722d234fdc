"""Evaluation: whole greedy episodes, each once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import rljax
from tests import probes
from tests.test_rollout import Counter, Payer, Pusher


def test_every_episode_counts_once_with_its_return_and_length(key):
    out = rljax.evaluate(Pusher(), (), Counter(), key, num_episodes=4)
    np.testing.assert_array_equal(out.episode_returns, [6.0] * 4)
    np.testing.assert_array_equal(out.episode_lengths, [3] * 4)
    assert out.finished.all()


def test_episodes_are_independent_and_equal_a_loop(key):
    env = rljax.make("CartPole-v1")
    out = rljax.evaluate(Pusher(), (), env, key, num_episodes=50)
    assert len(np.unique(out.episode_lengths)) > 1
    # Pushing one way, a pole falls at a step that depends on its start alone.
    for i, episode_key in enumerate(jax.random.split(key, 50)[:3]):
        state, _ = env.reset(jax.random.split(episode_key)[0])
        length, done = 0, False
        while not done:
            state, time_step = env.step(state, jnp.int32(1), key)
            length, done = length + 1, bool(time_step.terminated)
        assert out.episode_lengths[i] == length


def test_an_endless_episode_is_given_up_and_marked(key):
    out = rljax.evaluate(
        Pusher(), (), probes.Endless(), key, num_episodes=2, max_steps=7
    )
    np.testing.assert_array_equal(out.episode_lengths, [7, 7])
    assert not out.finished.any()


def test_it_plays_greedily(key):
    agent = rljax.Reinforce(num_envs=2, rollout_length=2, hidden_sizes=(4,))
    env = probes.ObsActionDependent()
    state = agent.init(key, env)
    out = rljax.evaluate(agent, state, env, key, num_episodes=64)
    again = rljax.evaluate(agent, state, env, key, num_episodes=64)
    # An untrained policy is near uniform; sampled, both rewards would turn up for
    # either observation. Greedy, an observation decides.
    greedy = [agent.greedy(state, jnp.array([obs])) for obs in (-1.0, 1.0)]
    rewards = {1.0 if greedy[0] == 0 else -1.0, 1.0 if greedy[1] == 1 else -1.0}
    assert set(np.asarray(out.episode_returns)) == rewards
    np.testing.assert_array_equal(out.episode_returns, again.episode_returns)


def test_the_states_of_several_seeds_are_refused(key):
    agent, env = rljax.PPO(hidden_sizes=(4,)), rljax.CartPole()
    states = jax.vmap(lambda k: agent.init(k, env))(jax.random.split(key, 3))
    with pytest.raises(ValueError, match="holds several seeds, vmap"):
        rljax.evaluate(agent, states, env, key, num_episodes=2)


def test_a_train_state_is_refused(key):
    state = rljax.init_train(Pusher(), Counter(), key)
    with pytest.raises(TypeError, match=r"pass train_state.agent_state"):
        rljax.evaluate(Pusher(), state, Counter(), key, num_episodes=1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_episodes": 0}, "num_episodes must be at least 1, got 0"),
        ({"num_episodes": 1, "max_steps": 0}, "max_steps must be at least 1, got 0"),
    ],
)
def test_bad_sizes_are_refused(kwargs, message, key):
    with pytest.raises(ValueError, match=message):
        rljax.evaluate(Pusher(), (), Counter(), key, **kwargs)


def test_the_state_of_another_agent_or_environment_is_refused(key):
    agent = rljax.QLearning()
    small, large = rljax.make("GridWorld-5x5"), rljax.make("GridWorld-7x7")
    state = agent.init(key, small)
    with pytest.raises(ValueError, match=r"agent_state.q_values must have .*\(49, 4\)"):
        rljax.evaluate(agent, state, large, key, num_episodes=1)
    for other in (None, rljax.PPO().init(key, rljax.CartPole())):
        with pytest.raises(TypeError, match="agent_state must have the "):
            rljax.evaluate(agent, other, small, key, num_episodes=1)


def test_only_what_is_learned_must_fit(key):
    env = rljax.CartPole()
    agent = rljax.ActorCritic(hidden_sizes=(4,), optimizer=optax.sgd)
    state = agent.init(key, env)._replace(opt_state=None)
    other = rljax.ActorCritic(hidden_sizes=(4,), num_envs=3)
    for each in (agent, other):
        rljax.evaluate(each, state, env, key, num_episodes=1, max_steps=2)
    state = rljax.Sarsa(num_envs=4).init(key, rljax.GridWorld())
    rljax.evaluate(
        rljax.Sarsa(), state, rljax.GridWorld(), key, num_episodes=1, max_steps=2
    )


def test_a_sampled_evaluation_explores_anew_in_every_step(key):
    rule = rljax.exploration.EpsilonGreedy(0.6, ties="first")
    agent, env = rljax.QLearning(exploration=rule), Payer(1.0, 8)
    state = agent.init(key, env)
    best = rljax.evaluate(agent, state, env, key, num_episodes=2)
    assert best.greedy
    np.testing.assert_array_equal(best.episode_returns, 0)  # ties go to action 0
    out = rljax.evaluate(agent, state, env, key, num_episodes=1024, greedy=False)
    assert not out.greedy
    # Action 1 is played with ε/2 = 0.3 in each of eight steps.
    counts = np.bincount(np.asarray(out.episode_returns, int), minlength=9)
    expected = stats.binom.pmf(np.arange(9), 8, 0.3) * 1024
    pooled = [*counts[:6], counts[6:].sum()], [*expected[:6], expected[6:].sum()]
    assert stats.chisquare(*pooled).pvalue > 1e-3
    with pytest.raises(TypeError, match="greedy must be True or False, got 'no'"):
        rljax.evaluate(agent, state, env, key, num_episodes=1, greedy="no")


def test_a_long_episode_adds_up_to_rounding(key):
    env = Payer(-0.01, 300_000)
    out = rljax.evaluate(Pusher(), (), env, key, num_episodes=1, max_steps=300_000)
    assert out.finished
    # Added one after the other in float32, they would give −3002.6.
    np.testing.assert_allclose(out.episode_returns, -3000, rtol=1e-6)
