"""CartPole in lockstep with Gymnasium, from the same injected states."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.envs.cartpole import CartPoleState
from rljax.envs.wrappers import TimeLimitState

NUM_TRANSITIONS = 120_000


def representable(state):
    """States that float32 holds exactly, so that both sides start from the same."""
    return state.astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module")
def experience():
    """Gymnasium's own transitions: from everywhere, and whole balanced episodes."""
    rng = np.random.default_rng(0)
    env = gymnasium.make("CartPole-v1", disable_env_checker=True)
    rows = []
    scale = np.array([2.5, 3.0, 0.22, 3.0])
    env.reset(seed=0)
    # Single steps from states drawn over the whole range, some beyond the thresholds.
    for state in representable(rng.uniform(-scale, scale, (NUM_TRANSITIONS // 2, 4))):
        env.unwrapped.state = state
        env.unwrapped.steps_beyond_terminated = None
        env._elapsed_steps = 0
        action = int(rng.integers(2))
        _, reward, terminated, truncated, _ = env.step(action)
        after = np.array(env.unwrapped.state)
        rows.append((state, 0, action, after, reward, terminated, truncated))
    # Episodes that a controller keeps up, so that the limit of 500 is reached.
    done = True
    for _ in range(NUM_TRANSITIONS // 2):
        if done:
            env.reset()
            time = 0
        state = representable(np.array(env.unwrapped.state))
        env.unwrapped.state = state
        action = int(state @ [0.05, 0.1, 1.0, 0.3] + rng.normal(0, 0.02) > 0)
        _, reward, terminated, truncated, _ = env.step(action)
        after = np.array(env.unwrapped.state)
        rows.append((state, time, action, after, reward, terminated, truncated))
        time += 1
        done = terminated or truncated
    return [np.array(column) for column in zip(*rows, strict=True)]


def lockstep(experience):
    states, times, actions = experience[:3]
    env = rljax.make("CartPole-v1")
    physics = CartPoleState(*jnp.asarray(states, float).T)
    state = TimeLimitState(physics, jnp.asarray(times, jnp.int32))
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, None)))
    _, time_step = step(state, jnp.asarray(actions, jnp.int32), jax.random.key(0))
    return jax.tree.map(np.asarray, time_step)


def assert_lockstep(experience, tolerance, record_property):
    before, _, _, after, reward, terminated, truncated = experience
    time_step = lockstep(experience)
    # Relative to the larger of the states before and after: a push that turns a
    # velocity of 0.3 into one of 0.003 cancels two of the seven digits.
    scale = np.maximum(np.abs(before).max(axis=1), np.abs(after).max(axis=1))
    error = np.abs(time_step.obs - after).max(axis=1) / scale
    record_property(
        "evidence",
        f"CartPole against Gymnasium, {len(after):,} transitions in "
        f"{time_step.obs.dtype}: largest relative error {error.max():.1e}",
    )
    assert error.max() <= tolerance
    np.testing.assert_array_equal(time_step.reward, reward)
    np.testing.assert_array_equal(time_step.truncated, truncated)
    distances = np.abs(np.abs(after[:, [0, 2]]) - [2.4, 12 * np.pi / 180])
    decided = (distances > tolerance).all(axis=1)
    assert decided.mean() > 0.999
    np.testing.assert_array_equal(time_step.terminated[decided], terminated[decided])
    assert len(after) >= 100_000
    assert terminated.sum() > 1000
    assert truncated.sum() > 100


def test_lockstep_in_float32(experience, record_property):
    # Well below the 1e-5 that would do.
    assert_lockstep(experience, 2e-6, record_property)


def test_lockstep_in_float64(experience, x64, record_property):
    time_step = lockstep(experience)
    assert time_step.obs.dtype == np.float64
    # Far below the 1e-6 that would do: it is the same arithmetic.
    assert_lockstep(experience, 1e-12, record_property)


def test_physics_are_leaves(key):
    def fall(gravity, half_length):
        env = rljax.CartPole(gravity=gravity, half_length=half_length)
        state = CartPoleState(*jnp.array([0.0, 0.0, 0.1, 0.0]))
        return env.step(state, jnp.int32(1), key)[0].theta_dot

    gravities = jnp.array([5.0, 9.8, 20.0])
    lengths = jnp.array([0.25, 0.5])
    out = jax.vmap(jax.vmap(fall, (None, 0)), (0, None))(gravities, lengths)
    for i, gravity in enumerate(gravities):
        for j, length in enumerate(lengths):
            np.testing.assert_allclose(out[i, j], fall(gravity, length), rtol=1e-6)
    assert len(np.unique(out)) == 6
    assert jnp.isfinite(jax.grad(fall)(9.8, 0.5))


def test_the_step_that_ends_an_episode_returns_its_own_observation(key):
    env = rljax.CartPole()
    state = CartPoleState(*jnp.array([2.39, 2.0, 0.0, 0.0]))
    state, time_step = env.step(state, jnp.int32(1), key)
    assert time_step.terminated
    assert not time_step.truncated
    np.testing.assert_allclose(time_step.obs[0], 2.43, rtol=1e-6)
    assert time_step.reward == 1


def test_reset_covers_its_interval(key):
    _, obs = jax.vmap(rljax.CartPole().reset)(jax.random.split(key, 10_000))
    assert (np.abs(obs) <= 0.05).all()
    np.testing.assert_allclose(obs.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(obs.std(0), 0.1 / 12**0.5, rtol=0.03)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (1.0, TypeError, "CartPole's action must have a dtype of kind integer"),
        (np.array([1]), ValueError, r"shape \(\) .* got \(1,\)"),
        (True, TypeError, "kind integer"),
        (2, ValueError, "must lie in Discrete"),
        (-1, ValueError, "must lie in Discrete"),
    ],
)
def test_a_wrong_action_is_refused(action, error, message, key):
    env = rljax.make("CartPole-v1")
    state, _ = env.reset(key)
    with pytest.raises(error, match=message):
        env.step(state, action, key)
    if not np.isscalar(action) or isinstance(action, float):
        with pytest.raises(error, match=message):
            jax.jit(env.step)(state, action, key)


def test_an_action_may_be_a_constant_under_jit(key):
    env = rljax.CartPole()
    state, _ = env.reset(key)
    action = jnp.int32(1)
    inside = jax.jit(lambda s: env.step(s, action, key)[0])(state)
    np.testing.assert_allclose(inside, env.step(state, 1, key)[0], rtol=1e-6)
    with pytest.raises(ValueError, match="must lie in Discrete"):
        jax.jit(lambda s: env.step(s, 2, key)[0])(state)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (
            {"half_length": 0},
            ValueError,
            "CartPole.half_length must be finite and more",
        ),
        ({"mass_pole": -1.0}, ValueError, "CartPole.mass_pole"),
        ({"gravity": float("inf")}, ValueError, "CartPole.gravity"),
        (
            {"gravity": "9.8"},
            TypeError,
            "CartPole.gravity must be a real number, finite",
        ),
    ],
)
def test_impossible_physics_are_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        rljax.CartPole(**kwargs)


def test_the_bounds_are_made_where_jax_looks_for_infinities():
    with jax.debug_infs(True):
        space = rljax.make("CartPole-v1").observation_space
    np.testing.assert_allclose(space.high, [4.8, np.inf, 24 * np.pi / 180, np.inf])
    np.testing.assert_array_equal(space.low, -space.high)
    assert space.high.dtype == np.float32


def test_thresholds_to_vmap_over_have_their_bounds():
    env = rljax.make("CartPole-v1", x_threshold=np.array([2.0, 3.0]))
    np.testing.assert_array_equal(env.observation_space.high[:, 0], [4.0, 6.0])
