"""Jumanji's environments, where it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import spaces, testing
from rljax.adapters import from_jumanji, jumanji_envs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def jumanji():
    reason = "needs jumanji: pip install jumanji"
    pytest.importorskip("jumanji.wrappers", reason=reason)
    return pytest.importorskip("jumanji")


def test_the_discount_says_which_end_it_is(jumanji):
    """Snake's time limit has discount 0; the other one here has 1, as LBF's has."""

    class Cut(jumanji.wrappers.Wrapper):
        def step(self, state, action):
            state, time_step = super().step(state, action)
            up = state.step_count >= 3
            discount = jnp.where(up, 1.0, time_step.discount)
            return state, time_step.replace(discount=discount)

    snake = jumanji.make("Snake-v1", num_rows=4, num_cols=4, time_limit=3)
    assert ends(from_jumanji(snake)) == {(t, True, False) for t in range(3)}
    expected = {(0, True, False), (1, True, False), (2, False, True)}
    assert ends(from_jumanji(Cut(snake))) == expected


def ends(env):
    """(step, terminated, truncated) of the ends of 30 episodes that go straight up."""
    assert env.action_space == spaces.Discrete(4)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    seen = set()
    for key in jax.random.split(jax.random.key(0), 30):
        state, obs = reset(key)
        assert type(env.observation_space) is type(obs)
        for t in range(3):
            state, time_step = step(state, jnp.int32(0), key)
            if time_step.terminated | time_step.truncated:
                seen.add((t, bool(time_step.terminated), bool(time_step.truncated)))
                break
    return seen


def test_it_keeps_the_contract_and_ppo_trains(jumanji, key):
    inner = jumanji.make("Snake-v1", num_rows=4, num_cols=4, time_limit=30)
    env = from_jumanji(inner)
    testing.check_env(env, key, num_steps=40)
    agent = rljax.PPO(num_envs=4, rollout_length=32)
    _, metrics = rljax.train(agent, env, key, num_updates=3)  # reads the tree itself
    assert metrics.num_episodes.sum() > 0
    assert np.isfinite(jax.tree.leaves(metrics.agent)).all()


def test_specs_become_spaces(jumanji):
    specs = jumanji.specs
    convert = jumanji_envs._space
    assert convert(specs.DiscreteArray(3)) == spaces.Discrete(3)
    several = specs.MultiDiscreteArray(jnp.array([2, 3]))
    assert convert(several) == spaces.MultiDiscrete((2, 3))
    box = convert(specs.BoundedArray((2,), float, -1.0, 2.0))
    assert (box.low, box.high, box.shape, box.dtype) == (-1, 2, (2,), np.float32)
    box = convert(specs.Array((2,), float))
    assert (box.low, box.high) == (-np.inf, np.inf)
    box = convert(specs.Array((2,), jnp.int8))
    assert (box.low, box.high) == (-128, 127)
    box = convert(specs.BoundedArray((2,), bool, False, True))
    assert (box.low, box.high, box.dtype) == (0, 1, np.int8)
    with pytest.raises(TypeError, match="knows no space like 'spec'"):
        convert("spec")


def test_what_is_no_single_environment_is_refused(jumanji):
    env = jumanji.make("Snake-v1")
    with pytest.raises(TypeError, match="env must be an environment of Jumanji"):
        from_jumanji("Snake-v1")
    with pytest.raises(ValueError, match="itself, got AutoResetWrapper"):
        from_jumanji(jumanji.wrappers.AutoResetWrapper(env))
    several = jumanji.make("Connector-v3")
    with pytest.raises(TypeError, match="must have one reward"):
        from_jumanji(several)
