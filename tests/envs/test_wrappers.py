"""The time limit, and making environments by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from tests import probes


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
        ("GaussianBandit-5", None, 1, {"num_arms": 5}),
        ("BernoulliBandit-5", None, 1, {"num_arms": 5}),
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
