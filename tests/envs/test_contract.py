"""One contract test over every environment that `make` knows, and the probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import testing
from rljax.envs.registry import ENVS
from tests import probes
from tests.conftest import enable_x64

PROBES = [
    probes.OneStep(),
    probes.TwoSteps(),
    probes.ObsDependent(),
    probes.ActionDependent(),
    probes.ObsActionDependent(),
    rljax.TimeLimit(probes.Endless(), 3),
]


@pytest.mark.parametrize("name", ENVS)
def test_every_name_keeps_the_contract(name, key):
    testing.check_env(rljax.make(name), key)


@pytest.mark.parametrize("name", ENVS)
def test_every_name_keeps_the_contract_in_x64(name):
    with enable_x64():
        testing.check_env(rljax.make(name), jax.random.key(0), num_steps=20)


@pytest.mark.parametrize("name", ENVS)
def test_legacy_keys_give_the_same_numbers(name):
    env = rljax.make(name)
    typed = env.reset(jax.random.key(7))
    jax.tree.map(np.testing.assert_array_equal, typed, env.reset(jax.random.PRNGKey(7)))


@pytest.mark.parametrize("env", PROBES, ids=lambda env: type(env).__name__)
def test_probes_keep_the_contract(env, key):
    testing.check_env(env, key, num_steps=20)


class Broken(rljax.CartPole):
    """CartPole with one part of the contract broken."""


def broken(**changes):
    """An environment whose TimeStep has `changes` applied to it."""

    class Env(Broken):
        def step(self, state, action, key):
            state, time_step = super().step(state, action, key)
            return state, time_step._replace(
                **{name: change(time_step) for name, change in changes.items()}
            )

    return rljax.struct.dataclass(Env)()


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (broken(reward=lambda _: 1.0), r"step must return arrays, but \[1\]\[1\]"),
        (broken(truncated=lambda _: False), "step must return arrays"),
        (broken(reward=lambda t: jnp.asarray(1.0)), "reward is weakly typed"),
        (broken(obs=lambda t: {"x": t.obs}), "obs has structure"),
        (broken(reward=lambda t: t.obs), "reward must be a floating scalar"),
        (broken(terminated=lambda t: t.reward), "terminated must be a bool"),
        (broken(obs=lambda t: t.obs[:2]), "obs is .* after step, but"),
        (broken(obs=lambda t: t.obs + 100), "outside its space"),
        (broken(reward=lambda t: t.reward * jnp.nan), "not finite"),
        (
            broken(obs=lambda t: jnp.where(t.terminated, jnp.nan, t.obs)),
            "the obs of step .* is not finite",
        ),
    ],
)
def test_a_broken_contract_is_named(env, message, key):
    with pytest.raises(AssertionError, match=message):
        testing.check_env(env, key)


class Drawing(rljax.BernoulliBandit):
    """A bandit whose noise is not what its step uses, or has the wrong shape."""


class OtherNoise(Drawing):
    def step(self, state, action, key):
        return super().step(state, action, jax.random.fold_in(key, 1))

    def advance(self, state, action, noise):
        return super().advance(state, action, noise)


class OneShape(Drawing):
    def draw(self, shape, key):
        return super().draw((), key)


@pytest.mark.parametrize(
    ("env_class", "message"),
    [(OtherNoise, "advance instead of step"), (OneShape, r"draw\(\(2, 3\), key\)")],
)
def test_a_draw_that_is_not_the_step_s_is_named(env_class, message):
    env = rljax.struct.dataclass(env_class)(drift_scale=0.1, means=jnp.full(5, 0.5))
    with pytest.raises(AssertionError, match=message):
        testing.check_env(env, jax.random.key(0))


class OnlyStep(Drawing):
    def step(self, state, action, key):
        return super().step(state, action, key)


def test_a_step_that_rollouts_would_pass_by_is_refused(key):
    env = rljax.struct.dataclass(OnlyStep)()
    with pytest.raises(TypeError, match="overrides step but inherits advance"):
        rljax.train(rljax.QLearning(discount=0.0), env, key, num_updates=1)


class RandomWalk(probes.Probe):
    """Its step draws for itself."""

    def reset(self, key):
        return probes.start(0.0)

    def step(self, state, action, key):
        obs = jax.random.uniform(key, minval=-1.0, maxval=1.0)
        return state, probes.time_step(obs, obs, False)


def test_a_time_limit_around_an_environment_without_draw_keeps_the_contract(key):
    walk = rljax.struct.dataclass(RandomWalk)()
    testing.check_env(rljax.TimeLimit(walk, 5), key, num_steps=20)
