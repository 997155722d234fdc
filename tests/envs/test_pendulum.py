"""The pendulum in lockstep with Gymnasium, from the same injected states."""

import contextlib

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.envs import pictures
from rljax.envs.pendulum import PendulumState
from tests.conftest import enable_x64


def experience(number):
    """Gymnasium's own transitions, from everywhere, with torques beyond the bounds."""
    rng = np.random.default_rng(0)
    env = gymnasium.make("Pendulum-v1", disable_env_checker=True).unwrapped
    states = rng.uniform([-10, -8], [10, 8], (number, 2))
    states[: number // 20, 1] = rng.choice([-8.0, 8.0], number // 20)  # clipped there
    torques = rng.uniform(-3, 3, (number, 1))
    states, torques = (x.astype(np.float32).astype(float) for x in (states, torques))
    env.last_u = None
    rows = []
    for state, torque in zip(states, torques, strict=True):
        env.state = state
        _, reward, terminated, truncated, _ = env.step(torque)
        assert not terminated
        assert not truncated
        rows.append((*env.state, reward))
    return states, torques, np.array(rows)


def lockstep(states, torques):
    env = rljax.Pendulum()
    state = PendulumState(*jnp.asarray(states, float).T)
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, None)))
    after, time_step = step(state, jnp.asarray(torques, float), jax.random.key(0))
    return after, time_step


@pytest.mark.parametrize(
    "number", [4000, pytest.param(100_000, marks=pytest.mark.slow)]
)
def test_lockstep(number, record_property):
    """In float32, and in float64, where it is the same arithmetic."""
    states, torques, expected = experience(number)
    for tolerance in (2e-5, 1e-11):
        with enable_x64() if tolerance < 1e-6 else contextlib.nullcontext():
            after, time_step = lockstep(states, torques)
        found = np.stack([*after, time_step.reward], axis=1)
        error = (np.abs(found - expected) / (1 + np.abs(expected))).max()
        record_property(
            "evidence",
            f"Pendulum against Gymnasium, {len(states):,} transitions in "
            f"{found.dtype}: largest relative error {error:.1e}",
        )
        assert error < tolerance
        theta, speed = expected[:, :2].T
        observed = np.stack([np.cos(theta), np.sin(theta), speed], axis=1)
        np.testing.assert_allclose(time_step.obs, observed, atol=10 * tolerance)
        assert not time_step.terminated.any()
        assert not time_step.truncated.any()
    assert (np.abs(expected[:, 1]) == 8).sum() > number // 100


def test_resets_are_everywhere_and_slow(key):
    state, obs = jax.vmap(rljax.Pendulum().reset)(jax.random.split(key, 10_000))
    for x, half in ((state.theta, np.pi), (state.theta_dot, 1.0)):
        assert (np.abs(x) <= half).all()
        np.testing.assert_allclose(np.std(x), half / 3**0.5, rtol=0.03)
    np.testing.assert_allclose(obs[:, 0], np.cos(state.theta), atol=1e-6)


def test_the_rod_points_where_its_angle_says():
    def places(theta):
        state = PendulumState(jnp.float32(theta), jnp.float32(0))
        picture = rljax.Pendulum().render(state, size=100)
        color = [int(pictures._POLE[i : i + 2], 16) for i in (1, 3, 5)]
        rows, columns = np.nonzero((picture == color).all(-1))
        return columns.mean() - 49.5, 49.5 - rows.mean()

    for theta in (0.0, 1.0, np.pi / 2, -2.0, np.pi):
        right, up = places(theta)
        distance = np.hypot(right, up)
        assert 15 < distance < 30
        np.testing.assert_allclose(
            [right / distance, up / distance], [np.sin(theta), np.cos(theta)], atol=0.05
        )


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (np.int32([1]), TypeError, "Pendulum's action must have a dtype of kind float"),
        (1.0, ValueError, r"shape \(1,\) .* got \(\)"),
        ([2.5], ValueError, "must lie in Box"),
    ],
)
def test_bad_actions_are_refused(action, error, message, key):
    env = rljax.Pendulum()
    state, _ = env.reset(key)
    with pytest.raises(error, match=message):
        env.step(state, action, key)


def test_bad_physics_are_refused():
    with pytest.raises(
        ValueError, match="Pendulum.length must be finite and more than 0"
    ):
        rljax.Pendulum(length=0.0)
