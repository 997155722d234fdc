"""The time limit, and making environments by name."""

import inspect
import re
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import envs, networks, spaces, struct, testing
from tests import probes
from tests.scenes import Scene


def test_time_limit_truncates_at_its_step_and_keeps_the_observation(key):
    env = rljax.TimeLimit(probes.Endless(), 3)
    state, _ = env.reset(key)
    flags = []
    for _ in range(3):
        state, time_step = env.step(state, jnp.int32(0), key)
        flags.append((bool(time_step.terminated), bool(time_step.truncated)))
    assert flags == [(False, False), (False, False), (False, True)]


def test_a_step_may_be_terminated_and_truncated(key):
    env = rljax.TimeLimit(probes.TwoSteps(), 2)
    state, _ = env.reset(key)
    state, _ = env.step(state, jnp.int32(0), key)
    _, time_step = env.step(state, jnp.int32(0), key)
    assert time_step.terminated
    assert time_step.truncated


def test_limits_nest_and_sweep(key):
    env = rljax.TimeLimit(rljax.TimeLimit(probes.Endless(), 2), 3)
    state, _ = env.reset(key)
    state, _ = env.step(state, jnp.int32(0), key)
    _, time_step = env.step(state, jnp.int32(0), key)
    assert time_step.truncated

    def truncated_at_once(max_steps):
        env = rljax.TimeLimit(probes.Endless(), max_steps)
        return env.step(env.reset(key)[0], jnp.int32(0), key)[1].truncated

    out = jax.vmap(truncated_at_once)(jnp.array([1, 2]))
    np.testing.assert_array_equal(out, [True, False])


def test_make_passes_parameters_on():
    env = rljax.make("CartPole-v1", gravity=5, max_steps=7)
    assert env.max_steps == 7
    assert env.env == rljax.CartPole(gravity=5.0)
    assert rljax.make("CartPole-v1") == rljax.TimeLimit(rljax.CartPole(), 500)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rljax.make("Cartpole"), ValueError, "'CartPole-v1', 'MountainCar-v0'"),
        (lambda: rljax.make(["CartPole-v1"]), ValueError, "got \\['CartPole-v1'\\]"),
        (
            lambda: rljax.make("CartPole-v1", gravitty=1),
            TypeError,
            "no parameter 'gravitty'; it has gravity",
        ),
        (
            lambda: rljax.TimeLimit(rljax.CartPole(), 0),
            ValueError,
            "TimeLimit.max_steps must be at least 1, got 0",
        ),
        (
            lambda: rljax.TimeLimit(rljax.CartPole(), jnp.array([3, 0])),
            ValueError,
            "TimeLimit.max_steps must be integers of at least 1",
        ),
        (
            lambda: rljax.TimeLimit(rljax.CartPole(), np.array(2**33)),
            ValueError,
            "TimeLimit.max_steps must be integers of .* at most 2147483647",
        ),
        (
            lambda: rljax.TimeLimit(rljax.CartPole(), 1.5),
            TypeError,
            "TimeLimit.max_steps must be an integer",
        ),
        (
            lambda: rljax.TimeLimit(rljax.CartPole, 5),
            TypeError,
            "env must be an environment",
        ),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "limit", "num_states", "settings"),
    [
        # Limits and rewards as Gymnasium registers them; its FrozenLake slips to either
        # side as often as it goes where it should.
        ("CartPole-v1", 500, None, {"gravity": 9.8}),
        ("Acrobot-v1", 500, None, {"gravity": 9.8}),
        ("MountainCar-v0", 200, None, {"gravity": 0.0025}),
        ("MountainCarContinuous-v0", 999, None, {"force": 0.0015}),
        ("Pendulum-v1", 200, None, {"gravity": 10}),
        ("GridWorld-5x5", None, 25, {"step_reward": -0.01, "slip": None}),
        ("GridWorld-7x7", None, 49, {"step_reward": -0.01, "slip": None}),
        ("FrozenLake-4x4", 100, 16, {"step_reward": 0, "goal_reward": 1}),
        ("FrozenLake-8x8", 200, 64, {"pit_reward": 0, "slip": 2 / 3}),
        ("CliffWalking", None, 48, {"goal_reward": -1, "cliff_reward": -100}),
        ("Taxi-v3", 200, 500, {"delivery_reward": 20, "slip": None}),
        ("Blackjack-v1", None, 293, {}),
        ("Gambler-100", None, 101, {"heads": 0.4}),
        ("GaussianBandit-5", None, 1, {"num_arms": 5}),
        ("BernoulliBandit-5", None, 1, {"num_arms": 5}),
        # As bsuite's experiments catch, deep_sea, memory_len and umbrella_length.
        ("Catch", None, None, {"rows": 10, "columns": 5, "tabular": False}),
        ("DeepSea-10", None, 101, {"move_cost": 0.01, "mapping_seed": 42}),
        ("DeepSea-10", None, 101, {"size": 10, "stochastic": False}),
        ("MemoryChain-10", None, None, {"memory_length": 10, "num_bits": 1}),
        ("Umbrella-10", None, None, {"chain_length": 10, "num_distractors": 20}),
    ],
)
def test_named_environments_are_the_known_ones(name, limit, num_states, settings):
    env = rljax.make(name)
    if limit is not None:
        assert env.max_steps == limit
        env = env.env
    assert not isinstance(env, rljax.TimeLimit)
    for field, value in settings.items():
        assert getattr(env, field) == pytest.approx(value)
    if num_states is not None:
        assert env.observation_space.n == num_states
    assert rljax.make(name, max_steps=None) == env


def test_the_table_of_make_is_of_what_it_makes():
    table = envs.table()
    assert textwrap.indent(table, "    ") in inspect.getdoc(rljax.make)
    pattern = r"^MountainCarContinuous-v0 +Box\(2,\) +Box\(1,\) +999 +Gymnasium$"
    assert re.search(pattern, table, re.M)
    assert re.search(r"^Taxi-v3 +Discrete\(n=500\) +Discrete\(n=6\) +200 ", table, re.M)
    assert re.search(r"^CliffWalking .* – +Gymnasium$", table, re.M)


@rljax.struct.dataclass
class Known(rljax.GridWorld):
    """Says which model it was asked for."""

    def to_mdp(self, *, sparse=False):
        return "sparse" if sparse else "dense"


def test_the_model_is_that_of_the_wrapped_environment():
    env = rljax.TimeLimit(rljax.TimeLimit(Known(), 3), 5)
    assert env.to_mdp() == "dense"
    assert env.to_mdp(sparse=True) == "sparse"
    with pytest.raises(TypeError, match="Endless can't enumerate itself"):
        rljax.TimeLimit(probes.Endless(), 3).to_mdp()


@pytest.mark.parametrize(
    "limits", [np.array([1, 0]), np.array([1.0]), np.array([2**31]), jnp.array([-1])]
)
def test_arrays_of_limits_are_checked(limits):
    with pytest.raises(
        ValueError, match="max_steps must be integers of at least 1 and"
    ):
        rljax.TimeLimit(probes.Endless(), limits)
    largest = rljax.TimeLimit(probes.Endless(), np.array([1, 2**31 - 1]))
    np.testing.assert_array_equal(largest.max_steps, [1, 2**31 - 1])
    assert rljax.TimeLimit(probes.Endless(), 2**31 - 1).max_steps == 2**31 - 1


@struct.dataclass
class Clock(rljax.Env):
    """Shows the time, as one image or three numbers."""

    shape: tuple = struct.static(default=(3,))
    end: int = struct.static(default=3)

    @property
    def observation_space(self):
        high = 100 + np.arange(self.shape[-1])
        return spaces.Box(0, high, self.shape, jnp.int32)

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def shown(self, time):
        step = jnp.arange(np.prod(self.shape), dtype=jnp.int32).reshape(self.shape)
        return 10 * time + step

    def reset(self, key):
        time = jnp.zeros((), jnp.int32)
        return time, self.shown(time)

    def step(self, state, action, key):
        time = state + 1
        done = time >= self.end
        reward = jnp.ones((), float)
        return time, rljax.TimeStep(self.shown(time), reward, done, ~done & False)

    def render(self, state, *, size=400):
        return np.full((size, size, 3), int(state), np.uint8)


def played(env, steps):
    """Observations of the reset and of each step, and the last state."""
    state, obs = env.reset(jax.random.key(0))
    seen = [np.asarray(obs)]
    for _ in range(steps):
        state, time_step = env.step(state, jnp.int32(0), jax.random.key(0))
        seen.append(np.asarray(time_step.obs))
    return seen, state


def test_frames_are_the_last_observations_oldest_first():
    frames, state = played(rljax.FrameStack(Clock(), 3), 4)
    alone, _ = played(Clock(), 4)
    for t, stacked in enumerate(frames):
        expected = [alone[max(t + i, 0)] for i in (-2, -1, 0)]
        np.testing.assert_array_equal(stacked, expected)
        assert stacked.dtype == np.int32
    assert state.env_state == 4


def test_frames_can_be_channels():
    env = rljax.FrameStack(Clock((2, 3, 2)), 2, as_channels=True)
    frames, _ = played(env, 2)
    alone, _ = played(env.env, 2)
    space = env.observation_space
    assert space.shape == (2, 3, 4)
    np.testing.assert_array_equal(space.high[0, 0], [100, 101, 100, 101])
    for t, stacked in enumerate(frames):
        expected = np.concatenate([alone[max(t - 1, 0)], alone[t]], axis=-1)
        np.testing.assert_array_equal(stacked, expected)
        assert space.contains(stacked)
    networks.CNN((4,), (2,), (1,)).check_observations(space, "encoder")


def test_a_stack_has_the_box_of_its_frames():
    env = rljax.FrameStack(Clock(), 4)
    space = env.observation_space
    assert (space.shape, space.dtype) == ((4, 3), jnp.int32)
    assert space.contains(played(env, 1)[0][1])
    assert not space.contains(np.full((4, 3), 103))
    assert space.low == 0
    assert rljax.FrameStack(Clock()).num_frames == 4
    assert env.action_space == Clock().action_space
    image = rljax.FrameStack(Scene(), 3, as_channels=True).observation_space
    assert (image.shape, image.low, image.high) == ((4, 5, 6), 0, 200)


def test_the_end_of_an_episode_is_the_wrapped_environments():
    env = rljax.TimeLimit(rljax.FrameStack(Clock(end=2), 2), 3)
    state, _ = env.reset(jax.random.key(0))
    ends = []
    for _ in range(3):
        state, time_step = env.step(state, jnp.int32(1), jax.random.key(0))
        ends.append((bool(time_step.terminated), bool(time_step.truncated)))
        assert time_step.reward == 1
    assert ends == [(False, False), (True, False), (True, True)]


def test_a_stack_passes_pictures_on_but_has_no_model():
    env = rljax.FrameStack(Clock(), 2)
    _, state = played(env, 2)
    np.testing.assert_array_equal(env.render(state, size=16), np.full((16, 16, 3), 2))
    with pytest.raises(TypeError, match="state must be a FrameStackState"):
        env.render(state.env_state)
    with pytest.raises(TypeError, match="FrameStack can't enumerate itself"):
        env.to_mdp()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((Clock(), 0), ValueError, "FrameStack.num_frames must be at least 1, got 0"),
        ((Clock(), 2, 1), TypeError, "FrameStack.as_channels must be True or False"),
        ((Clock, 2), TypeError, "env must be an environment"),
        (
            (rljax.make("GridWorld-5x5"), 2),
            TypeError,
            "FrameStack.env must have observations of a Box, .* TimeLimit|GridWorld",
        ),
        ((Scene("tree"), 2), TypeError, "those of Scene are of {.*Stack a part of"),
    ],
)
def test_what_can_not_be_stacked_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        rljax.FrameStack(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("as_channels", [False, True])
def test_stacks_keep_the_contract_and_train(as_channels, key):
    env = rljax.FrameStack(rljax.make("Pendulum-v1", max_steps=5), 3, as_channels)
    testing.check_env(env, key)
    agent = rljax.PPO(num_envs=2, rollout_length=8, hidden_sizes=(4,))
    _, metrics = rljax.train(agent, env, key, num_updates=2)
    assert np.isfinite(metrics.agent["value_loss"]).all()
    # Physics may be swept through it.
    sweep = {"num_seeds": 1, "num_updates": 1, "num_episodes": 1}
    rljax.sweep(agent, env, key, settings={"env.gravity": [9.0, 11.0]}, **sweep)
