"""The words are those of jax.random, whichever way they are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax import random
from tests.conftest import enable_x64

SHAPES = [(), (7,), (3, 4, 5), (0,), (100_001,)]
KEYS = {
    "typed": lambda: jax.random.key(3),
    "legacy": lambda: jax.random.PRNGKey(3),
    "split": lambda: jax.random.split(jax.random.key(3))[1],
    "rbg": lambda: jax.random.key(3, impl="rbg"),
}


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_words_are_those_of_jax_random(kind, shape, x64):
    with enable_x64() if x64 else jax.numpy_dtype_promotion("standard"):
        key = KEYS[kind]()
        uniform, normal = random.uniform(key, shape), random.normal(key, shape)
        expected_uniform = jax.random.uniform(key, shape)
        expected_normal = jax.random.normal(key, shape)
    assert uniform.dtype == expected_uniform.dtype == (np.float32, np.float64)[x64]
    np.testing.assert_array_equal(uniform, expected_uniform)
    assert normal.dtype == expected_normal.dtype
    np.testing.assert_allclose(normal, expected_normal, rtol=1e-6)


def test_jit_and_vmap_change_no_word():
    keys = jax.random.split(jax.random.key(0), 5)
    drawn = jax.jit(jax.vmap(lambda key: random.uniform(key, (4, 3))))(keys)
    for key, words in zip(keys, drawn, strict=True):
        np.testing.assert_array_equal(words, jax.random.uniform(key, (4, 3)))


def test_without_partitionable_counters_the_words_are_still_jax_s():
    key = jax.random.key(0)
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(
            random.uniform(key, (9,)), jax.random.uniform(key, (9,))
        )


def test_another_default_kind_of_legacy_key_is_left_to_jax():
    with jax.default_prng_impl("rbg"):
        key = jax.random.PRNGKey(0)
        np.testing.assert_array_equal(
            random.uniform(key, (9,)), jax.random.uniform(key, (9,))
        )


def test_words_lie_in_the_half_open_interval():
    words = random.uniform(jax.random.key(0), (1_000_000,))
    assert words.min() >= 0
    assert words.max() < 1
    assert jnp.isfinite(random.normal(jax.random.key(1), (1_000_000,))).all()
