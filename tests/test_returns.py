"""Returns against double loops, and against values worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rljax import returns
from rljax.rlhf import groups
from tests.comparison import PLAIN, arrays, assert_equals_oracle, flags, reals
from tests.oracles import returns as oracle


def draw(seed, length, p_terminated=0.2, p_truncated=0.2):
    rng = np.random.default_rng(seed)
    return {
        "rewards": rng.normal(size=length),
        "values": rng.normal(size=length),
        "next_values": rng.normal(size=length),
        "terminated": rng.random(length) < p_terminated,
        "truncated": rng.random(length) < p_truncated,
    }


UNIT = reals(0, 1) | st.sampled_from([0.0, 0.5, 0.875, 1.0])


@st.composite
def trajectories(draw, length, arguments):
    """Two trajectories of one length, as `arguments` name their parts, and weights."""
    kinds = {
        "rewards": arrays(length),
        "values": arrays(length),
        "next_values": arrays(length),
        "terminated": flags(length),
        "truncated": flags(length),
        "discount": UNIT,
        "lambda_": UNIT,
    }
    parts = [*(kinds[name] for name in arguments), arrays(length)]
    return [tuple(draw(part) for part in parts) for _ in range(2)]


RETURNS = ("rewards", "next_values", "terminated", "truncated", "discount")
LAMBDA = ("rewards", "next_values", "terminated", "truncated", "discount", "lambda_")
LENGTHS = pytest.mark.parametrize("length", [1, 6])
GAE = ("rewards", "values", *LAMBDA[1:])


@LENGTHS
@given(st.data(), PLAIN)
def test_discounted_returns_equal_their_double_loop(length, data, plain):
    cases = data.draw(trajectories(length, RETURNS))

    def expected(*args):
        gradient = oracle.discounted_returns_gradient(*args)
        return oracle.discounted_returns(*args[:-1]), gradient

    assert_equals_oracle(
        returns.discounted_returns, expected, cases, argnums=(0, 1, 4), plain=plain
    )


@LENGTHS
@given(st.data(), PLAIN)
def test_lambda_returns_equal_the_forward_view(length, data, plain):
    cases = data.draw(trajectories(length, LAMBDA))

    def expected(*args):
        gradient = oracle.lambda_returns_gradient(*args)
        return oracle.lambda_returns(*args[:-1]), gradient

    assert_equals_oracle(
        returns.lambda_returns, expected, cases, argnums=(0, 1, 4, 5), plain=plain
    )


@LENGTHS
@given(st.data(), PLAIN)
def test_gae_equals_its_double_loop(length, data, plain):
    cases = data.draw(trajectories(length, GAE))

    def expected(*args):
        return oracle.gae(*args[:-1]), oracle.gae_gradient(*args)

    assert_equals_oracle(
        returns.gae, expected, cases, argnums=(0, 1, 2, 5, 6), plain=plain
    )


@pytest.mark.parametrize("ends", ["terminated", "truncated", "both", "neither"])
@pytest.mark.parametrize("length", [1, 4])
def test_every_step_or_none_ends_an_episode(x64, length, ends):
    # One step each: r + γV', without V' where terminated. None: a single episode.
    case = draw(
        length, length, ends in ("terminated", "both"), ends in ("truncated", "both")
    )
    following = 0.5 * case["next_values"] * ~case["terminated"]
    args = (case["rewards"], case["next_values"], case["terminated"], case["truncated"])
    out = returns.discounted_returns(*args, 0.5)
    if ends != "neither":
        np.testing.assert_allclose(out, case["rewards"] + following, rtol=1e-15)
    np.testing.assert_allclose(out[-1], (case["rewards"] + following)[-1], rtol=1e-15)
    advantages = returns.gae(case["rewards"], case["values"], *args[1:], 0.5, 0.0)
    one_step = case["rewards"] + following - case["values"]
    np.testing.assert_allclose(advantages, one_step, rtol=1e-14, atol=1e-15)


def test_a_lambda_return_is_value_plus_advantage(x64):
    # The identity G_t^λ = A_t + V(s_t) needs V(s_{t+1}) = next_values wherever the
    # trajectory goes on, as it is for real experience.
    case = draw(7, 12)
    done = case["terminated"] | case["truncated"]
    following = np.append(case["values"][1:], 0.0)
    next_values = np.where(done, case["next_values"], following)
    next_values[-1] = case["next_values"][-1]
    ends = (case["terminated"], case["truncated"], 0.9, 0.7)
    np.testing.assert_allclose(
        returns.lambda_returns(case["rewards"], next_values, *ends),
        case["values"]
        + returns.gae(case["rewards"], case["values"], next_values, *ends),
        rtol=1e-12,
        atol=1e-13,
    )


def test_golden_worked_by_hand():
    # γ = ½, λ = ½; step 1 is truncated with V = 4, step 3 terminated.
    #   G_3 = 8
    #   G_2 = 4 + ½·(½·2 + ½·8)  = 6.5
    #   G_1 = 2 + ½·4            = 4      bootstrapped, nothing from step 2
    #   G_0 = 1 + ½·(½·6 + ½·4)  = 3.5
    out = returns.lambda_returns(
        jnp.array([1.0, 2.0, 4.0, 8.0]),
        jnp.array([6.0, 4.0, 2.0, 100.0]),
        jnp.array([False, False, False, True]),
        jnp.array([False, True, False, False]),
        0.5,
        0.5,
    )
    np.testing.assert_array_equal(out, [3.5, 4.0, 6.5, 8.0])


def test_first_episode_ends_with_its_done_step():
    terminated = jnp.array([False, False, True, False, True])
    truncated = jnp.array([False, False, True, False, False])
    mask = returns.first_episode(terminated, truncated)
    np.testing.assert_array_equal(mask, [True, True, True, False, False])
    last = jnp.arange(5) == 4
    for ends, expected in (
        (jnp.ones(5, bool), [True, False, False, False, False]),
        (last, [True] * 5),
        (jnp.ones(1, bool), [True]),
        (jnp.zeros(1, bool), [True]),
    ):
        for both in ((ends, ends & False), (ends & False, ends), (ends, ends)):
            np.testing.assert_array_equal(returns.first_episode(*both), expected)
    never = jnp.zeros(5, bool)
    assert returns.first_episode(never, never).all()


def test_float32_stays_float32_and_vmap_equals_loop():
    case = {k: np.stack([draw(s, 9)[k] for s in range(3)]) for k in draw(0, 9)}
    arrays = {
        k: jnp.asarray(v, jnp.float32 if v.dtype == float else bool)
        for k, v in case.items()
    }
    names = ("rewards", "values", "next_values", "terminated", "truncated")
    args = [arrays[name] for name in names]
    batched = jax.vmap(lambda *a: returns.gae(*a, 0.9, 0.8))(*args)
    assert batched.dtype == jnp.float32
    for i in range(3):
        lone = returns.gae(*(a[i] for a in args), 0.9, 0.8)
        np.testing.assert_allclose(batched[i], lone, rtol=1e-6, atol=1e-6)


def test_values_that_do_not_count_may_be_nan():
    # Two episodes: a terminated one, whose last value is NaN, and a broken one.
    nan = jnp.nan
    rewards = jnp.array([1.0, 2.0, nan, 1.0])
    next_values = jnp.array([1.0, nan, nan, nan])
    terminated = jnp.array([False, True, False, False])
    truncated = jnp.zeros(4, bool)
    out = returns.gae(
        rewards, jnp.ones(4), next_values, terminated, truncated, 0.5, 0.5
    )
    np.testing.assert_array_equal(out[:2], [0.75, 1.0])
    for lambda_ in (0.5, 1.0):
        out = returns.lambda_returns(
            rewards, next_values, terminated, truncated, 0.5, lambda_
        )
        assert jnp.isfinite(out[:2]).all()
    # Only the last of these values counts.
    out = returns.discounted_returns(
        jnp.ones(3),
        jnp.array([nan, nan, 2.0]),
        jnp.zeros(3, bool),
        jnp.zeros(3, bool),
        0.5,
    )
    np.testing.assert_array_equal(out, [2.0, 2.0, 2.0])


@pytest.mark.parametrize("fn", [returns.lambda_returns, returns.gae])
def test_an_empty_trajectory_has_no_returns(fn):
    arrays = [jnp.zeros(0)] * (2 if fn is returns.lambda_returns else 3)
    assert fn(*arrays, jnp.zeros(0, bool), jnp.zeros(0, bool), 0.9, 0.9).shape == (0,)


def test_lists_and_other_dtypes():
    out = returns.discounted_returns([1, 2], [0, 4], [False, False], [False, True], 0.5)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, [3.0, 4.0])
    half = jnp.ones(3, jnp.bfloat16)
    flags = jnp.zeros(3, bool)
    out = returns.lambda_returns(half, half, flags, flags, 0.5, jnp.float32(0.5))
    assert out.dtype == jnp.float32


def test_shapes_that_differ_are_refused():
    with pytest.raises(
        ValueError, match=r"discount must be a scalar, got shape \(5,\)"
    ):
        returns.gae(*[jnp.zeros(5)] * 3, *[jnp.zeros(5, bool)] * 2, jnp.ones(5), 1)
    with pytest.raises(ValueError, match=r"next_values \(4,\)"):
        returns.lambda_returns(
            jnp.zeros(5), jnp.zeros(4), jnp.zeros(5, bool), jnp.zeros(5, bool), 1, 1
        )
    with pytest.raises(ValueError, match="vmap"):
        returns.gae(*[jnp.zeros((5, 2))] * 3, *[jnp.zeros((5, 2), bool)] * 2, 1, 1)


@pytest.mark.parametrize("size", [2, 5])
@given(st.data(), PLAIN)
def test_group_advantages_equal_their_loops(size, data, plain):
    # Of one scale: where they are almost equal, the deviation is all rounding.
    spread = np.arange(size, dtype=float)
    cases = [
        (spread + data.draw(arrays(size, reals(-0.25, 0.25))), data.draw(arrays(size)))
        for _ in range(2)
    ]
    for fn, expected in (
        (groups.leave_one_out_advantages, oracle.leave_one_out),
        (groups.group_normalized_advantages, oracle.group_normalized),
    ):
        assert_equals_oracle(fn, expected, cases, argnums=(0,), plain=plain)


def test_a_group_of_equals_has_no_advantage():
    for fn in (groups.leave_one_out_advantages, groups.group_normalized_advantages):
        np.testing.assert_array_equal(fn(jnp.full(4, 3.0)), np.zeros(4))
        # The mean of these is not one of them.
        np.testing.assert_array_equal(fn(jnp.full(16, 1000.1)), np.zeros(16))
        gradient = jax.jacobian(fn)(jnp.full(4, 3.0))
        assert np.isfinite(gradient).all()
        with pytest.raises(ValueError, match=r"one group of two or more, \[G\], got"):
            fn(jnp.ones(1))
        with pytest.raises(ValueError, match="vmap over several groups"):
            fn(jnp.ones((3, 4)))


def test_arrays_in_another_order_are_refused():
    # A flag where a value belongs, or the reverse, would be cast and give nonsense.
    real, flags = jnp.ones(3), jnp.zeros(3, bool)
    with pytest.raises(TypeError, match="next_values must be real numbers .*got bool"):
        returns.discounted_returns(real, flags, flags, real, 0.5)
    with pytest.raises(TypeError, match="truncated must be bool .*got float"):
        returns.lambda_returns(real, real, flags, real, 0.5, 0.5)
    with pytest.raises(TypeError, match="terminated must be bool .*got int32"):
        returns.gae(real, real, real, jnp.zeros(3, int), flags, 0.5, 0.5)
    with pytest.raises(TypeError, match="terminated must be bool"):
        returns.first_episode(real, flags)


def test_where_products_are_exact_returns_are_rounded_once():
    # What rounding took away is discounted, too: by ½, which is a shift of the bits.
    rewards = np.random.default_rng(0).normal(size=200).astype(np.float32)
    exact = [rewards[t:] @ 0.5 ** np.arange(200 - t) for t in range(200)]
    zeros, never = jnp.zeros(200), jnp.zeros(200, bool)
    found = {
        "discounted": returns.discounted_returns(rewards, zeros, never, never, 0.5),
        "lambda": returns.lambda_returns(rewards, zeros, never, never, 0.5, 1.0),
        "gae": returns.gae(rewards, zeros, zeros, never, never, 0.5, 1.0),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value, exact, rtol=2.0**-24, err_msg=name)


def test_a_long_episode_s_returns_are_right_to_rounding():
    """In float32 the recursion itself would give −9865 at the first of 10⁶ steps."""
    length = 1_000_000
    rewards, zeros = jnp.full(length, -0.01), jnp.zeros(length)
    never = jnp.zeros(length, bool)
    found = {
        "discounted": returns.discounted_returns(rewards, zeros, never, never, 1.0),
        "lambda": returns.lambda_returns(rewards, zeros, never, never, 1.0, 1.0),
        "gae": returns.gae(rewards, zeros, zeros, never, never, 1.0, 1.0),
    }
    to_go = -np.float64(np.float32(0.01)) * np.arange(length, 0, -1)
    for name, value in found.items():
        np.testing.assert_allclose(value, to_go, rtol=2e-7, err_msg=name)
    # What was lost in one episode is no part of the one before.
    half = never.at[length // 2 - 1].set(True)
    for terminated, truncated in ((half, never), (never, half)):
        first = returns.discounted_returns(rewards, zeros, terminated, truncated, 1.0)
        np.testing.assert_allclose(first[0], -5000, rtol=2e-7)
