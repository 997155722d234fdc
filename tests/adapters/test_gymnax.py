"""gymnax's environments, where it is installed: its two kinds of ends apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import testing
from rljax.adapters import foreign, from_gymnax

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def gymnax():
    return pytest.importorskip("gymnax", reason="needs gymnax: pip install gymnax")


def limited(gymnax, name, max_steps):
    env, params = gymnax.make(name)
    return from_gymnax(env, params.replace(max_steps_in_episode=max_steps))


def test_a_time_limit_truncates_and_the_value_is_bootstrapped(gymnax, key):
    env = limited(gymnax, "Pendulum-v1", 3)
    state, obs = env.reset(key)
    flags = []
    for _ in range(3):
        state, time_step = env.step(state, jnp.zeros(1), key)
        flags.append((bool(time_step.terminated), bool(time_step.truncated)))
    assert flags == [(False, False), (False, False), (False, True)]
    assert (time_step.obs != obs).all()
    np.testing.assert_allclose(time_step.obs[2], state.theta_dot, rtol=1e-6)
    agent = rljax.PPO(num_envs=2, rollout_length=6, discount=0.5)
    train_state = rljax.init_train(agent, env, key)
    _, trajectory, _ = rljax.rollout.unroll(
        agent,
        train_state.agent_state,
        env,
        rljax.rollout.start(env, key),
        key,
        length=6,
    )
    np.testing.assert_array_equal(trajectory.truncated, [0, 0, 1, 0, 0, 1])
    assert not trajectory.terminated.any()
    values = jnp.full(6, 10.0)  # of all next states
    returns = rljax.returns.discounted_returns(
        trajectory.reward, values, trajectory.terminated, trajectory.truncated, 0.5
    )
    np.testing.assert_allclose(returns[2], trajectory.reward[2] + 5, rtol=1e-6)


def test_an_end_of_the_task_terminates(gymnax, key):
    """The car is put before the goal; gymnax's own state is the state."""
    env = limited(gymnax, "MountainCar-v0", 200)
    state, _ = env.reset(key)
    state = state.replace(position=jnp.float32(0.49), velocity=jnp.float32(0.06))
    _, time_step = env.step(state, jnp.int32(2), key)
    assert (bool(time_step.terminated), bool(time_step.truncated)) == (True, False)
    state = state.replace(position=jnp.float32(-0.5), time=jnp.int32(199))
    _, time_step = env.step(state, jnp.int32(2), key)
    assert (bool(time_step.terminated), bool(time_step.truncated)) == (False, True)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Breakout-MinAtar"])
def test_they_keep_the_contract(gymnax, key, name):
    env, params = gymnax.make(name)
    testing.check_env(from_gymnax(env, params), key)


def test_ppo_trains_and_parameters_can_be_swept(gymnax, key):
    env, params = gymnax.make("CartPole-v1")

    def train(gravity):
        swept = from_gymnax(env, params.replace(gravity=gravity))
        agent = rljax.PPO(num_envs=4, rollout_length=32)
        return rljax.train(agent, swept, key, num_updates=3)[1]

    metrics = jax.vmap(train)(jnp.array([5.0, 20.0]))
    assert metrics.num_episodes.shape == (2, 3)
    assert metrics.num_episodes.min() > 0
    assert np.isfinite(jax.tree.leaves(metrics.agent)).all()


def test_other_objects_are_refused(gymnax):
    with pytest.raises(TypeError, match="env must be an environment of gymnax"):
        from_gymnax(gymnax.make("CartPole-v1"))
    with pytest.raises(TypeError, match="knows no space like 'box'"):
        rljax.adapters.gymnax_envs._space("box")


def test_a_missing_package_is_named():
    with pytest.raises(ImportError, match="f needs no_such: pip install some-name"):
        foreign.package("no_such", "f", "some-name")
