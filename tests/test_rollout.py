"""Unrolling: resets, true successors, and episode statistics, counted by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import returns, rollout, spaces, struct
from rljax.types import RolloutPlan
from tests import probes


@struct.dataclass
class Counter:
    """Observes its clock; reward 1, 2, 3, …; terminates at its third step."""

    @property
    def observation_space(self):
        return spaces.Discrete(100)

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def reset(self, key):
        zero = jnp.zeros((), jnp.int32)
        return zero, zero

    def step(self, state, action, key):
        state = state + 1
        return state, rljax.TimeStep(
            state, state.astype(float), state == 3, jnp.bool_(False)
        )


@struct.dataclass
class Payer:
    """Pays `reward` for action 1, nothing for 0; truncates after `length` steps."""

    reward: float
    length: int = struct.static()

    @property
    def observation_space(self):
        return spaces.Discrete(1)

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def reset(self, key):
        zero = jnp.zeros((), jnp.int32)
        return zero, zero

    def step(self, state, action, key):
        reward = jnp.where(action == 1, self.reward, 0.0)
        out = jnp.zeros((), jnp.int32), reward, jnp.bool_(False)
        return state + 1, rljax.TimeStep(*out, state + 1 == self.length)


class Pusher(rljax.Agent):
    """Always plays action 1, learns nothing."""

    num_envs = 2
    rollout_length = 4

    def init(self, key, env):
        return ()

    def act(self, state, obs, key):
        return jnp.int32(1), {"seen": obs}

    def greedy(self, state, obs):
        return jnp.int32(1)

    def update(self, state, trajectory, key):
        return state, {"length": jnp.float32(trajectory.reward.shape[0])}


jax.tree_util.register_static(Pusher)


@pytest.fixture(scope="module")
def first():
    env, key = Counter(), jax.random.key(0)
    start = rollout.start(env, key)
    return rollout.unroll(Pusher(), (), env, start, key, length=7)


def test_next_obs_is_the_true_successor_and_obs_starts_anew(first):
    _, trajectory, _ = first
    np.testing.assert_array_equal(trajectory.obs, [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(trajectory.next_obs, [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(trajectory.terminated, [0, 0, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(trajectory.reward, [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(trajectory.action, 1)
    np.testing.assert_array_equal(trajectory.extras["seen"], trajectory.obs)


def test_episode_sums_and_what_is_carried_on(first):
    state, _, sums = first
    assert sums == (2, 12.0, 6)
    assert state.obs == 1
    assert (state.episode_return.value, state.episode_length) == (1.0, 1)


def test_a_second_rollout_goes_on_where_the_first_stopped(first):
    state, _, _ = first
    _, trajectory, sums = rollout.unroll(
        Pusher(), (), Counter(), state, jax.random.key(1), length=2
    )
    np.testing.assert_array_equal(trajectory.obs, [1, 2])
    # The episode's first reward was earned in the rollout before.
    assert sums == (1, 6.0, 3)


def test_resets_are_fresh_draws(key):
    # gymnax-style libraries have replayed one cached start: every start must differ.
    env = rljax.TimeLimit(rljax.CartPole(), 1)
    start = rollout.start(env, key)
    _, trajectory, _ = rollout.unroll(Pusher(), (), env, start, key, length=50)
    assert len(np.unique(trajectory.obs[:, 0])) == 50


def test_statistics_before_the_first_episode_ends_say_so(key):
    env = rljax.TimeLimit(Counter(), 100)
    agent = Pusher()
    _, metrics = rljax.train(agent, env, key, num_updates=3)
    # 2 environments, 4 steps an update: episodes end at steps 3, 6, 9, 12.
    np.testing.assert_array_equal(metrics.num_episodes, [2, 2, 4])
    np.testing.assert_array_equal(metrics.episode_return, [6, 6, 6])
    np.testing.assert_array_equal(metrics.episode_length, [3, 3, 3])
    long = rljax.TimeLimit(probes.Endless(), 10)
    _, metrics = rljax.train(agent, long, key, num_updates=3)
    np.testing.assert_array_equal(metrics.num_episodes, [0, 0, 2])
    np.testing.assert_array_equal(metrics.episode_return, [np.nan, np.nan, 10])


def test_vmapped_seeds_do_not_share_statistics():
    limits = jnp.array([2, 4, 100])

    def run(max_steps):
        env = rljax.TimeLimit(probes.Endless(), max_steps)
        return rljax.train(Pusher(), env, jax.random.key(0), num_updates=2)[1]

    metrics = jax.vmap(run)(limits)
    np.testing.assert_array_equal(metrics.num_episodes, [[4, 4], [2, 2], [0, 0]])
    np.testing.assert_array_equal(metrics.episode_length_sum, [[8, 8], [8, 8], [0, 0]])


def test_fresh_episodes_count_only_the_first_of_each_rollout(key):
    agent = rljax.Reinforce(num_envs=3, rollout_length=8, hidden_sizes=(4,))
    _, metrics = rljax.train(agent, Counter(), key, num_updates=2)
    np.testing.assert_array_equal(metrics.num_episodes, [3, 3])
    np.testing.assert_array_equal(metrics.episode_return, [6, 6])
    cut = rljax.Reinforce(num_envs=3, rollout_length=2, hidden_sizes=(4,))
    with pytest.warns(UserWarning, match="no episode ended"):
        _, metrics = rljax.train(cut, Counter(), key, num_updates=2)
    np.testing.assert_array_equal(metrics.num_episodes, [0, 0])


class Dice(Counter):
    """A throw of each reset says after how many steps, 1 to 6, the episode ends."""

    def reset(self, key):
        return jax.random.randint(key, (), 1, 7), jnp.zeros((), jnp.int32)

    def step(self, state, action, key):
        none = jnp.zeros((), jnp.int32)
        time_step = rljax.TimeStep(none, jnp.ones(()), state == 1, jnp.bool_(False))
        return state - 1, time_step


jax.tree_util.register_static(Dice)


class Watching(Pusher):
    """Counts the steps of the first episodes, which are what it may learn from."""

    @property
    def rollout_plan(self):
        return RolloutPlan(8, 6, fresh_episodes=True)

    def update(self, state, trajectory, key):
        mask = jax.vmap(returns.first_episode, 1, 1)(
            trajectory.terminated, trajectory.truncated
        )
        return state, {"steps": jnp.sum(mask.astype(float))}


jax.tree_util.register_static(Watching)


def test_fresh_episodes_of_different_lengths_are_counted_in_full(key):
    _, metrics = rljax.train(Watching(), Dice(), key, num_updates=4)
    steps = metrics.agent["steps"]
    assert len(np.unique(steps)) > 1 and (steps > 8).all()
    np.testing.assert_array_equal(metrics.num_episodes, 8)
    np.testing.assert_array_equal(metrics.episode_length_sum, steps)
    np.testing.assert_array_equal(metrics.episode_return, steps / 8)


@pytest.mark.parametrize(("length", "expected"), [(1, -1500), (300_000, -3000)])
def test_long_sums_are_right_to_rounding(length, expected):
    env = Payer(-0.01, length)

    @jax.jit
    def go_on(state, key):
        return rollout.unroll(Pusher(), (), env, state, key, length=150_000)

    state, _, _ = go_on(rollout.start(env, jax.random.key(0)), jax.random.key(1))
    _, _, sums = go_on(state, jax.random.key(2))
    assert sums.num_episodes == max(150_000 // length, 1)
    assert sums.episode_length_sum == max(150_000, length)
    # Added one after the other in float32, 150,000 times −0.01 give −1501.2.
    np.testing.assert_allclose(sums.episode_return_sum, expected, rtol=1e-6)


def test_counters_stop_at_the_largest_number(key):
    env = Payer(1.0, 4)
    last = jnp.int32(2**31 - 1)
    state = rollout.start(env, key)._replace(episode_length=last - 1)
    _, _, sums = rollout.unroll(Pusher(), (), env, state, key, length=8)
    assert sums.num_episodes == 2
    assert sums.episode_length_sum == last


@pytest.mark.parametrize("num_envs", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_steps_taken_one_at_a_time_are_those_of_interact(num_envs, key):
    agent = rljax.Reinforce(num_envs=num_envs, rollout_length=7, hidden_sizes=(4,))
    env = rljax.make("CartPole-v1", max_steps=3)
    state = rljax.init_train(agent, env, key)
    agent_state, start = state.agent_state, state.rollout_state

    @jax.jit
    def whole(key):
        done = rollout.interact(agent, agent_state, env, start, key, key)
        return done.agent_state, done.rollout_state

    @jax.jit
    def step(rollout_state, noise):
        return rollout.step_all(agent, agent_state, env, rollout_state, noise)

    noise = rollout.draw(agent, agent_state, env, key)
    here, transitions, ended = start, [], 0
    for time in range(7):
        one = jax.tree.map(lambda x: x[time], noise)
        here, transition, sums = step(here, one)
        transitions.append(transition)
        ended += sums.num_episodes
        np.testing.assert_array_equal(sums.episode_length_sum, 3 * (time % 3 == 2))
    trajectory = jax.tree.map(lambda *x: jnp.stack(x), *transitions)
    learned, _ = jax.jit(agent.update)(agent_state, trajectory, key)
    expected, end = whole(key)
    # Programs that are compiled apart may round otherwise.
    chex.assert_trees_all_close(here, end, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(learned, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ended, 2)
    np.testing.assert_array_equal(here.episode_length, 1)
