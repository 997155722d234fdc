"""Brax: its protocol by a stand-in that needs no Brax, and itself where it is there."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import batching

import rljax
from rljax import testing
from rljax.adapters import from_brax


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """With the fields of Brax's and Playground's states."""

    data: jax.Array
    obs: Any
    reward: jax.Array
    done: jax.Array
    metrics: dict[str, jax.Array]
    info: dict[str, Any]


class Slider:
    """Terminates beyond 1.5; like Brax's, it writes into the state that it is given.

    Its time is weakly typed after reset, and its reward an integer.
    """

    action_size = 1

    def reset(self, rng):
        data = jax.random.uniform(rng)
        return self._state(data, 0.0, {"distance": 0.0}, {"time": 0})

    def step(self, state, action):
        data = state.data + action[0]
        state.metrics["distance"] = data
        state.info["time"] = state.info["time"] + 1
        return self._state(data, data > 1, state.metrics, state.info)

    def _state(self, data, reward, metrics, info):
        obs = {"state": jnp.stack([data, -data]), "privileged": data[None]}
        done = jnp.where(data > 1.5, 1.0, 0.0)
        return State(data, obs, jnp.asarray(reward, float), done, metrics, info)


class Episode(Slider):
    """Truncates after 3 steps, as Brax's EpisodeWrapper does."""

    def reset(self, rng):
        state = super().reset(rng)
        state.info["truncation"] = jnp.zeros(())
        return state

    def step(self, state, action):
        state = super().step(state, action)
        up = state.info["time"] >= 3
        state.info["truncation"] = jnp.where(up, 1 - state.done, 0)
        return dataclasses.replace(state, done=jnp.where(up, 1.0, state.done))


def ends(env, actions, key):
    """(terminated, truncated) of each step."""
    state, _ = env.reset(key)
    step, flags = jax.jit(env.step), []
    for action in actions:
        state, time_step = step(state, jnp.array([action], float), key)
        flags.append((bool(time_step.terminated), bool(time_step.truncated)))
    return flags


def test_done_is_terminated_unless_the_wrapper_says_truncated(key):
    off, on, cut = (False, False), (True, False), (False, True)
    assert ends(from_brax(Slider()), [0, 0, 0, 0, 1, 1], key)[:4] == [off] * 4
    assert ends(from_brax(Episode()), [0, 0, 0], key) == [off, off, cut]
    assert ends(from_brax(Episode()), [0, 1, 1], key)[-1] == on


def test_state_and_observation_keep_their_strong_dtypes(key):
    env = from_brax(Episode())
    first = jax.eval_shape(env.reset, key)
    after, time_step = jax.eval_shape(env.step, first[0], jnp.zeros(1), key)
    for old, new in ((first[0], after), (first[1], time_step.obs)):
        for x, y in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
            assert (x.shape, x.dtype) == (y.shape, y.dtype)
            assert not x.weak_type
            assert not y.weak_type


@pytest.mark.slow
def test_it_keeps_the_contract(key):
    testing.check_env(from_brax(Episode()), key, num_steps=20)


def test_spaces_actions_and_what_is_passed_on(key):
    env = from_brax(Slider())
    assert env.action_space == rljax.spaces.Box(-1.0, 1.0, (1,))
    space = env.observation_space["state"]
    assert (space.low, space.high, space.shape) == (-np.inf, np.inf, (2,))
    state, obs = env.reset(key)
    assert obs["privileged"] == state.data
    after, time_step = jax.jit(env.step)(state, jnp.array([7.0]), key)
    assert after.data == state.data + 1  # clipped
    assert time_step.obs["privileged"] == after.data
    assert time_step.reward == 1
    assert state.metrics["distance"] == 0  # nothing was written into it
    env.step(state, jnp.array([0.5]), key)
    assert state.metrics["distance"] == 0


def test_spaces_are_structure_the_same_for_one_environment(key):
    """An agent's own network scales integers by their bounds, which jit must not trace.

    And another adapter of the same environment needs no other program.
    """
    slider = with_reset(obs=jnp.zeros(2, jnp.uint8))
    make = jax.jit(functools.partial(rljax.init_train, rljax.PPO(num_envs=1)))
    params = jax.eval_shape(make, from_brax(slider), key).agent_state.params
    assert params.params.reading.parts[0].bounds == (0, 255)
    one, again, other = map(from_brax, (slider, slider, Slider()))
    assert jax.tree.structure(one) == jax.tree.structure(again)
    assert jax.tree.structure(one) != jax.tree.structure(other)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: "ant", TypeError, "env must be an environment of Brax"),
        (lambda: with_reset(info="first_obs"), ValueError, "itself. Remove Auto"),
        (lambda: with_reset(info="AutoResetWrapper_first_obs"), ValueError, "itself"),
        (lambda: with_reset(done=jnp.zeros(3)), ValueError, r"has the shape \(3,\)"),
        (lambda: within("VmapWrapper"), ValueError, "Remove VmapWrapper: rollouts"),
        (
            lambda: within("VmapWrapper", "EpisodeWrapper", "BraxAutoResetWrapper"),
            ValueError,
            "Remove BraxAutoResetWrapper and VmapWrapper: rollouts",
        ),
        (
            lambda: with_reset(data=Shared(jnp.zeros(4))),
            ValueError,
            r"state.data.* has the shape \(4,\) for two of them, \(4,\) for one",
        ),
    ],
)
def test_what_is_no_single_environment_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        from_brax(make())


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Shared:
    """Like the data of MuJoCo's Warp: vmap gives its array no axis."""

    contacts: jax.Array


batching.register_vmappable(
    Shared, int, int, lambda c, x, s, a: x, lambda c, n, x, a: x, None
)


class Mapped:
    """Resets for each key, as Brax's VmapWrapper does: JAX fails on a single one."""

    action_size = 1

    def __init__(self, env):
        self.env = env

    def reset(self, rng):
        return jax.vmap(self.env.reset)(rng)

    def step(self, state, action):
        return jax.vmap(self.env.step)(state, action)


def within(*names):
    """A slider within wrappers of these names, the innermost first."""
    env = Slider()
    for name in names:
        env = type(name, (Mapped,), {})(env)
    return env


def with_reset(info="nothing", **changes):
    """A slider whose reset returns another state."""
    env = Slider()
    state = env.reset(jax.random.key(0))
    state.info[info] = state.obs
    env.reset = lambda rng: dataclasses.replace(state, **changes)
    return env


def test_a_state_of_another_dtype_is_refused(key):
    env = from_brax(Slider())
    state, _ = env.reset(key)
    state = dataclasses.replace(state, data=jnp.int32(0))
    with pytest.raises(TypeError, match=r"Slider's state.data has the dtype float32"):
        env.step(state, jnp.array([0.0]), key)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_ppo_trains_on_an_environment_of_brax(key):
    envs = pytest.importorskip("brax.envs", reason="needs brax: pip install brax")
    wrappers = pytest.importorskip("brax.envs.wrappers.training")
    inner = envs.get_environment("fast")  # no physics, which take minutes to compile
    env = from_brax(wrappers.EpisodeWrapper(inner, 50, 1))
    testing.check_env(env, key, num_steps=60)
    with pytest.raises(ValueError, match="Remove AutoResetWrapper"):
        from_brax(wrappers.AutoResetWrapper(inner))
    agent = rljax.PPO(num_envs=8, rollout_length=64)
    _, metrics = rljax.train(agent, env, key, num_updates=3)
    assert np.isfinite(jax.tree.leaves(metrics.agent)).all()
    assert metrics.num_episodes.sum() >= 8
