"""Spaces: draws lie inside, and elements are checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rljax import spaces


def test_discrete(key):
    space = spaces.Discrete(3)
    draws = jax.vmap(space.sample)(jax.random.split(key, 1000))
    assert draws.dtype == jnp.int32
    assert set(np.asarray(draws)) == {0, 1, 2}
    assert jax.vmap(space.contains)(draws).all()
    assert not space.contains(jnp.int32(3))
    with pytest.raises(ValueError, match="Discrete.n must be at least 1"):
        spaces.Discrete(0)


def test_box_with_infinite_sides(key):
    inf = jnp.inf
    low, high = jnp.array([-1.0, -inf, 2.0, -inf]), jnp.array([3.0, inf, inf, -5.0])
    space = spaces.Box(low, high, (4,))
    draws = jax.vmap(space.sample)(jax.random.split(key, 5000))
    assert jnp.isfinite(draws).all()
    assert jax.vmap(space.contains)(draws).all()
    np.testing.assert_allclose(draws.mean(0), [1.0, 0.0, 3.0, -6.0], atol=0.06)


def test_check_element():
    box = spaces.Box(-1.0, 1.0, (2,))
    out = spaces.check_element(box, np.array([0.5, -0.5]), "action")
    assert out.dtype == jnp.float32
    with pytest.raises(TypeError, match="action must have a dtype of kind floating"):
        spaces.check_element(box, np.array([0, 1]), "action")
    with pytest.raises(ValueError, match="lie in"):
        spaces.check_element(box, np.array([0.5, -1.5]), "action")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.0, -1.0, (2,)), ValueError, "Box.low must be at most Box.high"),
        ((0.0, 1.0, 3), TypeError, r"Box.shape must be a tuple such as \(4,\), got 3"),
        ((0.0, 1.0, (0,)), ValueError, r"Box.shape\[0\] must be at least 1"),
    ],
)
def test_impossible_boxes_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        spaces.Box(*arguments)


def test_the_bounds_belong_to_a_box():
    box = spaces.Box(jnp.array([-1.0, 0.0]), jnp.array([1.0, jnp.inf]), (2,))
    for corner in ([-1.0, 0.0], [1.0, 0.0], [1.0, jnp.inf]):
        assert box.contains(np.array(corner))
    for outside in ([-1.01, 0.0], [1.01, 0.0], [0.0, -0.01]):
        assert not box.contains(np.array(outside))


def test_the_draws_of_a_box_have_their_deviation(key):
    inf = jnp.inf
    low, high = jnp.array([-1.0, -inf, 2.0, -inf]), jnp.array([3.0, inf, inf, -5.0])
    space = spaces.Box(low, high, (4,))
    draws = np.asarray(jax.vmap(space.sample)(jax.random.split(key, 5000)))
    deviations = [4 / np.sqrt(12), 1, 1, 1]
    np.testing.assert_allclose(draws.std(0), deviations, rtol=0.06)


def test_a_batch_of_elements_is_no_element():
    with pytest.raises(
        ValueError, match=r"action must have shape \(2,\).*got \(3, 2\)"
    ):
        spaces.check_element(spaces.Box(-1.0, 1.0, (2,)), np.zeros((3, 2)), "action")
    with pytest.raises(ValueError, match=r"action must have shape \(\).*got \(1,\)"):
        spaces.check_element(spaces.Discrete(2), np.array([0]), "action")


def test_only_a_discrete_space_has_a_number_of_actions():
    assert spaces.num_actions(spaces.Discrete(3), "QLearning") == 3
    with pytest.raises(TypeError, match="QLearning chooses among finitely many"):
        spaces.num_actions(spaces.Box(-1.0, 1.0, (2,)), "QLearning")


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 255, jnp.uint8),
        (-3, 2, jnp.int8),
        (np.array([5, -7]), np.array([5, 7]), jnp.int32),
    ],
)
def test_a_box_of_integers_draws_each_alike(key, low, high, dtype):
    space = spaces.Box(low, high, (3, 2), dtype)
    draws = jax.vmap(space.sample)(jax.random.split(key, 20_000))
    assert draws.dtype == dtype
    low, high = np.broadcast_to(low, (3, 2)), np.broadcast_to(high, (3, 2))
    for i, j in np.ndindex(3, 2):
        bins = np.bincount(np.int64(draws[:, i, j]) - low[i, j])
        assert len(bins) == high[i, j] - low[i, j] + 1
        if len(bins) > 1:
            assert stats.chisquare(bins).pvalue > 1e-3
    assert jax.vmap(space.contains)(draws).all()
    out = spaces.check_element(space, np.asarray(draws[0]), "observation")
    assert out.dtype == dtype
    with pytest.raises(TypeError, match="observation must have a dtype of kind integ"):
        spaces.check_element(space, np.zeros((3, 2)), "observation")


def test_all_integers_can_be_drawn(key):
    least, most = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    draws = jax.vmap(spaces.Box(least, most, (), jnp.int32).sample)(
        jax.random.split(key, 10_000)
    )
    # As shares of the whole, and as the last bit.
    uniform = (np.float64(draws) - least) / 2.0**32
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert abs(np.mean(draws % 2) - 0.5) < 0.02
    with pytest.raises(ValueError, match=r"Box.high must be finite to draw integers"):
        spaces.Box(0, np.inf, (2,), jnp.int32).sample(key)


def test_bounds_of_fewer_axes_are_broadcast(key):
    space = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 5.0]), (3, 2))
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        assert space.contains(space.sample(key))
        assert jax.jit(space.contains)(space.sample(key))
        assert not space.contains(jnp.full((3, 2), 2.0))
