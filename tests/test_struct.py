"""Pytree dataclasses: leaves, static fields, and when checks run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import checks, struct
from tests.conftest import enable_x64


def test_floats_are_leaves_and_shapes_are_structure():
    agent = rljax.PPO(learning_rate=0.5)
    assert 0.5 in jax.tree.leaves(agent)
    assert 16 not in jax.tree.leaves(agent)
    other = rljax.PPO(learning_rate=0.25)
    assert jax.tree.structure(agent) == jax.tree.structure(other)
    wider = rljax.PPO(num_envs=32)
    assert jax.tree.structure(agent) != jax.tree.structure(wider)


def test_paths_name_the_fields():
    paths = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(rljax.make("CartPole-v1"))
    ]
    assert ".env.gravity" in paths
    assert ".max_steps" in paths


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        rljax.PPO().learning_rate = 1.0  # pyright: ignore


def test_trees_of_anything_can_have_the_shape_of_an_agent():
    # Gradients, axes and shardings are no settings, and must not be checked as such.
    agent = rljax.PPO()
    assert jax.tree.map(lambda _: None, agent).discount is None
    assert jax.tree.map(lambda x: -5 * x, agent).discount == -4.95
    gradient = jax.grad(lambda a: -3.0 * a.discount)(agent)
    assert gradient.discount == -3


def test_replace_checks_again():
    with pytest.raises(ValueError, match="discount"):
        dataclasses.replace(rljax.PPO(), discount=2.0)


def test_numbers_become_floats_and_traced_values_stay():
    for one in (1, 1.0, np.float32(1), np.int64(1)):
        agent = rljax.PPO(discount=one)
        assert type(agent.discount) is float
    out = jax.vmap(lambda d: rljax.PPO(discount=d).discount)(jnp.array([0.5, 7.0]))
    np.testing.assert_array_equal(out, [0.5, 7.0])


def test_a_static_field_cannot_be_traced():
    with pytest.raises(TypeError, match="PPO.num_envs .* can't be an array"):
        jax.vmap(lambda n: rljax.PPO(num_envs=n).discount)(jnp.array([1, 2]))


def test_open_and_closed_ends():
    @struct.dataclass
    class Settings:
        x: float = 1.0

        def __post_init__(self):
            checks.reals(self, "x", minimum=0.0, maximum=2.0, open_minimum=True)
            checks.reals(self, "y", optional=True)

        y: float | None = 1.0

    assert Settings(2).x == 2
    assert Settings(y=None).y is None
    with pytest.raises(ValueError, match=r"Settings.y must be finite, got inf"):
        Settings(y=np.inf)
    with pytest.raises(ValueError, match=r"Settings.x must be in \(0, 2\], got 0"):
        Settings(0)


def test_numbers_that_the_default_dtype_can_not_hold_are_refused():
    with pytest.raises(
        ValueError, match=r"PPO.learning_rate .*1e\+39, which is inf in"
    ):
        rljax.PPO(learning_rate=1e39)
    with pytest.raises(ValueError, match=r"mass_cart .*1e-50, which is 0.0 in float32"):
        rljax.CartPole(mass_cart=1e-50)
    with pytest.raises(ValueError, match=r"PPO.learning_rate must be finite"):
        rljax.PPO(learning_rate=10**400)
    with pytest.raises(
        ValueError, match="PPO.rollout_length must be at most 2147483647"
    ):
        rljax.PPO(rollout_length=2**33)
    with enable_x64():
        assert rljax.CartPole(mass_cart=1e-50).mass_cart == 1e-50
