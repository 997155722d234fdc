"""Environments on the host: pure functions of seed and actions, in any order."""

import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import testing
from rljax.adapters import from_gymnasium
from rljax.adapters.host import HostState


class Counter(gymnasium.Env):
    """Adds up actions and noise; terminates at 5, and reuses one array for all."""

    observation_space = gymnasium.spaces.Dict(
        {"sum": gymnasium.spaces.Box(-1e6, 1e6, (2,), np.float32)}
    )
    action_space = gymnasium.spaces.Discrete(3)
    made = 0

    def __init__(self):
        Counter.made += 1
        self.array = np.zeros(2, np.float32)
        self.num_steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.array[:] = 0, self.np_random.uniform()
        return {"sum": self.array}, {}

    def step(self, action):
        assert type(action) is int
        self.num_steps += 1
        self.array += action, self.np_random.uniform()
        ended = bool(self.array[0] >= 5)
        return {"sum": self.array}, float(action), ended, False, {}


def test_a_batch_is_what_single_environments_do(key):
    """In one loop under jit, with Gymnasium's own instances beside it."""
    env = from_gymnasium(Counter, num_envs=3)
    actions = jnp.array([[1, 2, 0], [1, 1, 1], [2, 2, 2], [2, 0, 2]])

    def play(keys):
        states, first = jax.vmap(env.reset)(keys)

        def step(states, actions):
            return jax.vmap(env.step, (0, 0, None))(states, actions, keys[0])

        states, time_steps = jax.lax.scan(step, states, actions)
        return states, first, time_steps

    keys = jax.random.split(key, 3)
    states, first, time_steps = jax.jit(play)(keys)
    for i in range(3):
        own = Counter()
        obs, _ = own.reset(seed=int(states.seed[i]))
        np.testing.assert_allclose(first["sum"][i], obs["sum"], rtol=1e-6)
        done = False
        for t in range(4):
            if done:  # nothing happens any more
                assert time_steps.terminated[t, i]
                assert time_steps.reward[t, i] == 0
                continue
            obs, reward, done, *_ = own.step(int(actions[t, i]))
            np.testing.assert_allclose(time_steps.obs["sum"][t, i], obs["sum"])
            assert time_steps.reward[t, i] == reward
            assert time_steps.terminated[t, i] == done
    np.testing.assert_array_equal(states.time, [-1, -1, -1])
    assert not time_steps.truncated.any()
    assert len(np.unique(states.seed)) == 3


def test_any_state_can_be_stepped_again_and_otherwise(key):
    """What is pure may be called twice, and from an old state with another action."""
    env = from_gymnasium(Counter, num_envs=2)
    reset, compiled = jax.jit(env.reset), jax.jit(env.step)

    def step(state, action):
        return compiled(state, jnp.int32(action), key)

    first, _ = reset(key)
    one, _ = step(first, 1)
    two, end = step(one, 1)
    again = step(one, 1)
    for x, y in zip(jax.tree.leaves(again), jax.tree.leaves((two, end)), strict=True):
        np.testing.assert_array_equal(x, y)
    _, other = step(one, 2)
    np.testing.assert_array_equal(other.obs["sum"] - end.obs["sum"], [1, 0])
    three, after = step(two, 1)
    assert after.obs["sum"][0] == 3
    assert three.time == 3
    made = Counter.made
    for seed in range(3):  # more episodes than instances: the oldest goes on by replay
        step(first._replace(seed=jnp.uint32(seed)), 0)
    _, late = step(three, 1)
    assert late.obs["sum"][0] == 4
    assert Counter.made == made  # one for observations of resets, and two
    assert len(env.host.live) == 2
    state = first
    for _ in range(200):
        state, _ = step(state, 0)
    assert list(env.host.live.values())[-1].env.num_steps < 220  # none was replayed
    assert len(env.host.recent) == 64 + 4 * 2
    with pytest.raises(Exception, match="nothing is known of the state after 7 steps"):
        step(state._replace(time=jnp.int32(7)), 0)


class Camera(gymnasium.Env):
    """An image, of which no step is ever asked."""

    observation_space = gymnasium.spaces.Box(0, 255, (2, 3, 1), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)


def test_an_agents_own_network_reads_integers_though_the_environment_is_traced(key):
    """As `train` has it under jit: their bounds scale what the network gets."""
    env = from_gymnasium(Camera, num_envs=1)
    make = jax.jit(functools.partial(rljax.init_train, rljax.PPO(num_envs=1)))
    reader = jax.eval_shape(make, env, key).agent_state.params
    assert reader.reading.parts[0].bounds == (0, 255)


def test_more_environments_than_were_announced_are_refused(key):
    """Before the first of them is stepped."""
    env = from_gymnasium(Counter, num_envs=2)
    states = HostState(np.zeros(3, "u4"), np.zeros(3, "i4"), np.zeros((3, 2), "u4"))
    step = jax.jit(jax.vmap(env.step, (0, 0, None)))
    with pytest.raises(Exception, match="3 environments are stepped .* num_envs=3 at"):
        jax.block_until_ready(step(states, np.zeros(3, int), key))
    assert not env.host.live


class Several(Camera):
    action_space = gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)})


@pytest.mark.slow
def test_they_keep_the_contract(key):
    testing.check_env(from_gymnasium(Counter, num_envs=3), key, num_steps=12)
    testing.check_env(from_gymnasium("Pendulum-v1", num_envs=3), key, num_steps=12)


class Mirror(gymnasium.Env):
    """Pays 1 for the action that was shown; 8 steps long, so that chance gets 4."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.shown = 0, self.np_random.integers(2)
        return self.shown, {}

    def step(self, action):
        self.time, reward = self.time + 1, float(action == self.shown)
        self.shown = self.np_random.integers(2)
        return self.shown, reward, False, self.time == 8, {}


@pytest.mark.slow
def test_ppo_learns_from_what_is_seen_on_the_host(key):
    """KeepBest's episodes are played in between, without harm to those of training."""
    env = from_gymnasium(Mirror, num_envs=4 + 8)
    agent = rljax.PPO(num_envs=4, rollout_length=32, learning_rate=3e-3)
    best = rljax.KeepBest(every=4, num_episodes=8)
    state, metrics = rljax.train(agent, env, key, num_updates=16, keep_best=best)
    returns = np.asarray(metrics.episode_return)
    assert returns[0] < 6
    assert returns[-3:].mean() > 7.5
    assert state.best.score > 7.5
    assert len(env.host.live) <= 4 + 8


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((3, 1), TypeError, "env must be a name, or a function that makes"),
        ((Several, 1), TypeError, "from_gymnasium takes .* one action space.*'a'"),
        ((Counter, 0), ValueError, "num_envs must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(args, error, message):
    with pytest.raises(error, match=message):
        from_gymnasium(args[0], num_envs=args[1])
