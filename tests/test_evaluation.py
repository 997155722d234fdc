"""Evaluation: whole greedy episodes, each once."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import rljax
from rljax import spaces, struct
from rljax.evaluation import play_episode
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


# One episode, step by step.


def test_an_episode_is_the_one_that_evaluate_plays(key):
    env, agent = rljax.make("GridWorld-5x5", slip=0.3, max_steps=30), rljax.QLearning()
    state = agent.init(key, env)
    for greedy in (True, False):
        for key in jax.random.split(jax.random.key(1), 3):
            out = rljax.evaluate(agent, state, env, key, num_episodes=1, greedy=greedy)
            episode = play_episode(agent, state, env, key, greedy=greedy)
            num_steps = int(out.episode_lengths[0])
            assert len(episode.actions) == len(episode.rewards) == num_steps
            np.testing.assert_allclose(
                episode.rewards.sum(), out.episode_returns[0], rtol=1e-6
            )
            assert episode.finished is True
            np.testing.assert_array_equal(
                episode.env_states.time, np.arange(num_steps + 1)
            )


def test_the_steps_of_an_episode_lead_from_state_to_state(key):
    env = rljax.make("CartPole-v1")
    episode = play_episode(Pusher(), (), env, key)
    states = episode.env_states
    np.testing.assert_array_equal(episode.actions, np.ones(len(episode.rewards), int))
    for i in range(len(episode.actions)):
        before, after = (jax.tree.map(lambda x, j=j: x[j], states) for j in (i, i + 1))
        stepped, time_step = env.step(before, episode.actions[i], key)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            stepped,
            after,
        )
        assert bool(time_step.terminated) == (i == len(episode.actions) - 1)
    assert np.abs(states.env_state.theta[0]) <= 0.05
    assert "env_states: TimeLimitState of 5 arrays" in repr(episode)


def test_an_episode_that_is_given_up_has_so_many_steps(key):
    episode = play_episode(Pusher(), (), probes.Endless(), key, max_steps=7)
    assert len(episode.rewards) == 7
    assert episode.finished is False


@struct.dataclass
class KeyHolder:
    """Its state is a random key, from which it draws whether to end."""

    @property
    def observation_space(self):
        return spaces.Discrete(2)

    action_space = observation_space

    def reset(self, key):
        return key, jnp.zeros((), jnp.int32)

    def step(self, state, action, key):
        state, key = jax.random.split(state)
        obs, never = jnp.zeros((), jnp.int32), jnp.bool_(False)
        end = jax.random.bernoulli(key, 0.01)
        return state, rljax.TimeStep(obs, jnp.float32(1), end, never)


def test_states_may_hold_random_keys(key):
    states = play_episode(Pusher(), (), KeyHolder(), key, max_steps=9).env_states
    assert len(states) > 3
    for before, after in itertools.pairwise(states):
        assert jax.random.split(before)[0] == after


def test_an_episode_cannot_be_traced(key):
    def play(key):
        return play_episode(Pusher(), (), rljax.CartPole(), key)

    for transformed, keys in (
        (jax.jit(play), key),
        (jax.vmap(play), jax.random.split(key, 2)),
    ):
        with pytest.raises(TypeError, match="can't be traced. Call it outside of jit"):
            transformed(keys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"greedy": 1}, "greedy must be True or False, got 1"),
        ({"env": 3}, "env must be an environment"),
        (
            {"agent": rljax.QLearning(), "agent_state": ()},
            "agent_state must have the type",
        ),
    ],
)
def test_an_episode_refuses_wrong_arguments_by_name(arguments, message, key):
    usual = {"agent": Pusher(), "agent_state": (), "env": Counter(), "key": key}
    with pytest.raises((TypeError, ValueError), match=message):
        play_episode(**{**usual, **arguments})
