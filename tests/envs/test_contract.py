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
