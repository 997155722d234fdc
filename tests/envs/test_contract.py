"""One contract test over every environment that `make` knows, and the probes."""

import jax
import jax.numpy as jnp
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
        (broken(reward=lambda _: 1.0), "weakly typed|floating scalar"),
        (broken(reward=lambda t: t.obs), "reward must be a floating scalar"),
        (broken(terminated=lambda t: t.reward), "terminated must be a bool"),
        (broken(obs=lambda t: t.obs[:2]), "obs is .* after step, but"),
        (broken(obs=lambda t: t.obs + 100), "outside its space"),
        (broken(reward=lambda t: t.reward * jnp.nan), "not finite"),
    ],
)
def test_a_broken_contract_is_named(env, message, key):
    with pytest.raises((AssertionError, AttributeError), match=message):
        testing.check_env(env, key)
