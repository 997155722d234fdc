"""Jumanji's environments, where it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import networks, spaces, struct, testing
from rljax.adapters import from_jumanji, jumanji_envs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def jumanji():
    return pytest.importorskip("jumanji", reason="needs jumanji: pip install jumanji")


@struct.dataclass
class Flat:
    """A network that reads any tree: all numbers in one vector."""

    num_actions: int = struct.static()

    def init(self, key, obs):
        inputs = self._vector(obs).size
        return networks.actor_critic_init(
            inputs, self.num_actions, (16,), key, shared=True
        )

    def apply(self, params, obs):
        return networks.actor_critic_apply(params, self._vector(obs), "tanh")

    def _vector(self, obs):
        leaves = jax.tree.leaves(obs)
        return jnp.concatenate([jnp.ravel(x).astype(float) for x in leaves])


def test_flags_and_spaces(jumanji, key):
    """A snake that runs into the wall terminates, one whose time is up is truncated."""
    env = from_jumanji(jumanji.make("Snake-v1", num_rows=4, num_cols=4, time_limit=3))
    assert env.action_space == spaces.Discrete(4)
    assert type(env.observation_space) is type(env.reset(key)[1])
    seen = set()
    for seed in range(30):
        state, _ = env.reset(jax.random.key(seed))
        for step in range(3):
            state, time_step = env.step(state, jnp.int32(0), key)
            flags = (bool(time_step.terminated), bool(time_step.truncated))
            seen.add((step, flags))
            if any(flags):
                break
    assert (2, (False, True)) in seen
    assert (0, (True, False)) in seen
    assert not {(0, (False, True)), (1, (False, True))} & seen


def test_it_keeps_the_contract_and_ppo_trains(jumanji, key):
    inner = jumanji.make("Snake-v1", num_rows=4, num_cols=4, time_limit=30)
    env = from_jumanji(inner)
    testing.check_env(env, key, num_steps=40)
    agent = rljax.PPO(num_envs=4, rollout_length=32, network=Flat(4))
    _, metrics = rljax.train(agent, env, key, num_updates=3)
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
    with pytest.raises(ValueError, match="got a AutoResetWrapper"):
        from_jumanji(jumanji.wrappers.AutoResetWrapper(env))
    several = jumanji.make("Connector-v3")
    with pytest.raises(TypeError, match="must have one reward"):
        from_jumanji(several)
