"""Losses and their gradients against derivations by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rljax
from rljax import losses, rlhf
from tests.comparison import PLAIN, arrays, assert_equals_oracle, flags, reals
from tests.oracles import losses as oracle

SHAPES = st.sampled_from([(2, 3), (5,), (1,)])
EPSILON = st.sampled_from([0.0, 0.2, 0.5]) | reals(0, 2)


@st.composite
def batches(draw, count, *scalars):
    """Two batches of `count` arrays and scalars, and the weight 1 of a mean."""
    shape = draw(SHAPES)
    parts = [*[arrays(shape)] * count, *scalars]
    return [(*(draw(part) for part in parts), 1.0) for _ in range(2)]


def times(oracle_fn):
    """With the weight of the value, which is 1 for a mean."""
    return lambda *args: oracle_fn(*args[:-1])


@given(batches(2), PLAIN)
def test_policy_gradient_loss(cases, plain):
    assert_equals_oracle(
        losses.policy_gradient_loss,
        times(oracle.policy_gradient),
        cases,
        argnums=(0, 1),
        plain=plain,
    )


@given(batches(2), PLAIN)
def test_value_loss(cases, plain):
    assert_equals_oracle(
        losses.value_loss, times(oracle.value), cases, argnums=(0, 1), plain=plain
    )


@given(batches(3, EPSILON.filter(lambda e: e > 0)), PLAIN)
def test_clipped_value_loss(cases, plain):
    for values, old_values, targets, epsilon, _ in cases:
        # At the edge, or where both errors tie, a last bit decides; those have tests
        # of their own, below.
        change = values - old_values
        clipped = old_values + np.clip(change, -epsilon, epsilon)
        tie = np.abs((values - targets) ** 2 - (clipped - targets) ** 2)
        inside = np.abs(change) < epsilon
        assume((np.abs(np.abs(change) - epsilon) > 1e-3).all())
        assume((inside | (tie > 1e-3)).all())
    assert_equals_oracle(
        losses.clipped_value_loss,
        times(oracle.clipped_value),
        cases,
        argnums=(0, 1, 2, 3),
        plain=plain,
    )


@given(batches(3, EPSILON), PLAIN)
def test_ppo_clip_loss(cases, plain):
    for log_probs, behaviour_log_probs, _, epsilon, _ in cases:
        ratio = np.exp(log_probs - behaviour_log_probs)
        # A ratio of 1 with ε = 0 is exactly on both bounds.
        near = np.minimum(np.abs(ratio - 1 - epsilon), np.abs(ratio - 1 + epsilon))
        assume(((near > 1e-3) | ((ratio == 1) & (epsilon == 0))).all())
    assert_equals_oracle(
        losses.ppo_clip_loss,
        times(oracle.ppo_clip),
        cases,
        argnums=(0, 1, 2, 3),
        plain=plain,
    )


@given(batches(3, EPSILON, st.sampled_from([1.5, 3.0, 50.0])), PLAIN)
def test_ppo_dual_clip_loss(cases, plain):
    for log_probs, behaviour_log_probs, _, epsilon, dual_clip, _ in cases:
        ratio = np.exp(log_probs - behaviour_log_probs)
        bounds = np.array([1 - epsilon, 1 + epsilon, dual_clip])
        near = np.abs(ratio[..., None] - bounds).min(axis=-1)
        assume(((near > 1e-3) | ((ratio == 1) & (epsilon == 0))).all())
    assert_equals_oracle(
        losses.ppo_clip_loss,
        times(oracle.ppo_clip),
        cases,
        argnums=(0, 1, 2, 3, 4),
        plain=plain,
    )


@given(batches(2), PLAIN)
def test_bradley_terry_loss(cases, plain):
    assert_equals_oracle(
        rlhf.losses.bradley_terry_loss,
        times(oracle.bradley_terry),
        cases,
        argnums=(0, 1),
        plain=plain,
    )


@given(batches(4, reals(0, 2)), PLAIN)
def test_dpo_loss(cases, plain):
    assert_equals_oracle(
        rlhf.losses.dpo_loss,
        times(oracle.dpo),
        cases,
        argnums=(0, 1, 2, 3, 4),
        plain=plain,
        scale=8.0,
    )


def test_preferences_of_any_size_are_finite():
    """A preference held with certainty costs nothing, its opposite its margin."""
    far = jnp.array([1e4])
    value, (up, down) = jax.value_and_grad(rlhf.losses.bradley_terry_loss, (0, 1))(
        far, -far
    )
    assert (value, up[0], down[0]) == (0, 0, 0)
    value, (up, down) = jax.value_and_grad(rlhf.losses.bradley_terry_loss, (0, 1))(
        -far, far
    )
    assert (value, up[0], down[0]) == (2e4, -1, 1)
    with pytest.raises(ValueError, match="shapes must be equal"):
        rlhf.losses.bradley_terry_loss(far, far[:, None])


@pytest.mark.parametrize("advantage", [3.0, -3.0, 0.0])
@pytest.mark.parametrize("side", [1, -1])
def test_a_ratio_exactly_on_its_bound_counts_as_inside(x64, side, advantage):
    plain = jax.value_and_grad(losses.ppo_clip_loss, (0, 1, 2, 3))
    jitted, batched = jax.jit(plain), jax.jit(jax.vmap(plain))
    found = 0
    for log_ratio in side * np.linspace(0.05, 0.6, 50):
        ratio = np.asarray(jax.jit(jnp.exp)(log_ratio))
        epsilon = side * (ratio - 1)
        on_bound = ratio == np.exp(log_ratio) == 1 + side * epsilon
        if not on_bound:
            continue
        found += 1
        args = (np.array([log_ratio]), np.zeros(1), np.array([advantage]), epsilon)
        value, gradients = oracle.ppo_clip(*args)
        assert gradients[0] == -ratio * advantage
        vmapped = jax.tree.map(lambda x: x[0], batched(*(x[None] for x in args)))
        for out in (plain(*args), jitted(*args), vmapped):
            np.testing.assert_allclose(out[0], value, rtol=1e-12)
            for got, expected in zip(out[1], gradients, strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)
    assert found > 10


@st.composite
def steps(draw):
    """Two batches of Q-values and steps; no two values of a row are equal."""
    length, num_actions = draw(st.sampled_from([(4, 3), (1, 1)]))
    rank = st.permutations(range(length * num_actions))

    def q_values():
        order = np.array(draw(rank), float).reshape(length, num_actions)
        return order / 4 + draw(st.floats(-2, 2, width=16))

    def case():
        actions = st.integers(0, num_actions - 1)
        return (
            q_values(),
            draw(hnp.arrays(np.int32, length, elements=actions)),
            draw(arrays(length)),
            q_values(),
            draw(flags(length)),
            draw(st.sampled_from([0.0, 0.5, 1.0]) | reals(0, 1)),
            draw(arrays(length)),
        )

    return [case(), case()]


@given(steps(), PLAIN)
def test_td_errors(cases, plain):
    assert_equals_oracle(
        losses.td_errors,
        oracle.td_errors,
        cases,
        argnums=(0, 2, 3, 5),
        plain=plain,
    )


@pytest.mark.parametrize(
    ("ratio", "advantage", "epsilon", "gradient"),
    [
        (1.0, 3.0, 0.5, -3.0),
        (1.0, -3.0, 0.5, 3.0),
        (1.0, 3.0, 0.0, -3.0),  # on both bounds, which count as inside
        (1.0, -3.0, 0.0, 3.0),
        (1.75, 2.0, 0.5, 0.0),
        (0.25, -2.0, 0.5, 0.0),
        (1.75, -2.0, 0.5, 3.5),  # the bound on the other side never binds
        (0.25, 2.0, 0.5, -0.5),
        (1.75, 0.0, 0.5, 0.0),
    ],
)
def test_ppo_clip_gradient_around_the_bounds(ratio, advantage, epsilon, gradient):
    # With respect to log π the gradient is −r·A inside and 0 outside.
    grad = jax.grad(losses.ppo_clip_loss)(
        jnp.log(jnp.array([ratio])), jnp.zeros(1), jnp.array([advantage]), epsilon
    )
    np.testing.assert_allclose(grad, [gradient], rtol=1e-6)


def test_clip_value_passes_the_whole_gradient_at_ties():
    # Inside the clip both errors are equal; a maximum would still be right there, but
    # not at its edge, where the clip's own derivative is a choice.
    grad = jax.grad(losses.clipped_value_loss)(
        jnp.array([1.5]), jnp.array([1.0]), jnp.array([3.0]), 0.5
    )
    np.testing.assert_array_equal(grad, [-1.5])


def test_td_errors_worked_by_hand():
    # δ = r + γ·max Q' − Q(s,a): 1 + ½·4 − 2 = 1; terminated: 1 − 3 = −2.
    out = losses.td_errors(
        jnp.array([[2.0, 0.0], [0.0, 3.0]]),
        jnp.array([0, 1]),
        jnp.array([1.0, 1.0]),
        jnp.array([[4.0, 1.0], [9.0, 9.0]]),
        jnp.array([False, True]),
        0.5,
    )
    np.testing.assert_array_equal(out, [1.0, -2.0])


def test_a_ratio_that_overflows_has_no_gradient_beyond_the_bound():
    grad = jax.grad(losses.ppo_clip_loss)(
        jnp.zeros(2), jnp.array([-200.0, 0.0]), jnp.ones(2), 0.2
    )
    np.testing.assert_array_equal(grad, [0.0, -0.5])


def test_one_stale_sample_is_bounded_by_the_dual_clip():
    # r = e^200 overflows. Without a bound its element is −r A; with c it is −c A.
    args = (jnp.array([200.0, 0.0]), jnp.zeros(2), jnp.array([-1.0, -1.0]), 0.2)
    value, gradient = jax.value_and_grad(losses.ppo_clip_loss)(*args)
    np.testing.assert_array_equal([value, *gradient], [np.inf, np.inf, 0.5])
    gradient = jax.grad(losses.ppo_clip_loss, (0, 1, 2, 4))(*args, 3.0)
    np.testing.assert_array_equal(gradient[0], [0.0, 0.5])
    np.testing.assert_array_equal(gradient[1], [0.0, -0.5])
    np.testing.assert_array_equal(gradient[2], [-1.5, -0.5])
    assert gradient[3] == 0.5
    assert losses.ppo_clip_loss(*args, 3.0) == 2.0
    # Where A ≥ 0 the ratio is bounded as it is.
    args = (args[0], args[1], -args[2], args[3])
    assert losses.ppo_clip_loss(*args) == losses.ppo_clip_loss(*args, 3.0)
    for wrong in (1.0, 0.5, -3.0, jnp.nan):
        with pytest.raises(ValueError, match="dual_clip must be None or more than 1"):
            losses.ppo_clip_loss(*args, wrong)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_ratio_that_is_nan_is_not_taken_for_a_clipped_one(advantage):
    nan, one = jnp.full(1, jnp.nan), jnp.ones(1)
    args = (nan, one, advantage * one, 0.2)
    value, gradient = jax.value_and_grad(losses.ppo_clip_loss)(*args)
    assert np.isnan(value) and np.isnan(gradient)
    assert np.isnan(losses.ppo_clip_loss(*args, 3.0))


def test_a_terminal_value_does_not_count_even_if_infinite():
    out = losses.td_errors(
        jnp.ones((1, 2)),
        jnp.array([0]),
        jnp.ones(1),
        jnp.full((1, 2), jnp.inf),
        jnp.array([True]),
        0.5,
    )
    np.testing.assert_array_equal(out, [0.0])


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"q_values must be \[T, A\]"):
        losses.td_errors(
            jnp.ones((5, 2)),
            jnp.zeros(1, int),
            jnp.ones(1),
            jnp.ones((5, 2)),
            jnp.ones(1, bool),
            0.9,
        )
    with pytest.raises(ValueError, match=r"values \(4,\), targets \(4, 1\)"):
        losses.value_loss(jnp.zeros(4), jnp.zeros((4, 1)))


REAL, FLAG = jnp.ones(3), jnp.ones(3, bool)
ROWS, INDEX = jnp.ones((3, 2)), jnp.ones(3, int)


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (losses.policy_gradient_loss, (REAL, FLAG), "weights must be real numbers"),
        (losses.value_loss, (FLAG, REAL), "values must be real numbers"),
        (losses.clipped_value_loss, (REAL, FLAG, REAL, 0.2), "old_values must be real"),
        (losses.ppo_clip_loss, (REAL, REAL, FLAG, 0.2), "advantages must be real"),
        (losses.ppo_clip_loss, (REAL, REAL, REAL, True), "clip_epsilon must be real"),
        (
            losses.td_errors,
            (ROWS, INDEX, FLAG, ROWS, REAL, 0.9),
            "rewards must be real numbers here, got bool. Are the arguments in their",
        ),
        (
            losses.td_errors,
            (ROWS, INDEX, REAL, ROWS, REAL, 0.9),
            "terminated must be bool here, got float32",
        ),
        (
            losses.td_errors,
            (ROWS, REAL, REAL, ROWS, FLAG, 0.9),
            "actions must be integers here, got float32",
        ),
        (rlhf.losses.bradley_terry_loss, (REAL, FLAG), "rejected_rewards must be real"),
        (rlhf.losses.dpo_loss, (REAL, REAL, FLAG, REAL, 0.1), "reference_chosen_log_p"),
        (rlhf.kl.kl_k2, (REAL, FLAG), "reference_log_probs must be real numbers"),
        (
            rlhf.kl.penalized_rewards,
            (REAL, REAL, FLAG, INDEX, 0.1),
            "truncated must be bool here, got int32",
        ),
        (
            rlhf.kl.penalized_rewards,
            (REAL, FLAG, FLAG, FLAG, 0.1),
            "kl must be real numbers here, got bool",
        ),
        (
            rljax.distributions.categorical_log_prob,
            (ROWS, REAL),
            "actions must be integers here, got float32",
        ),
        (rljax.distributions.categorical_entropy, (ROWS > 0,), "logits must be real"),
    ],
)
def test_arrays_in_another_order_are_refused(loss, arguments, message):
    with pytest.raises(TypeError, match=message):
        loss(*arguments)


def test_arrays_where_a_scalar_belongs_are_refused():
    ones, q = jnp.ones(3), jnp.ones((3, 2))
    column = jnp.ones((3, 1))
    with pytest.raises(
        ValueError, match=r"discount must be a scalar, got shape \(3, 1"
    ):
        losses.td_errors(q, jnp.zeros(3, int), ones, q, ones > 2, column)
    with pytest.raises(ValueError, match="clip_epsilon must be a scalar"):
        losses.ppo_clip_loss(ones, ones, ones, column)
    with pytest.raises(ValueError, match="clip_epsilon must be a scalar"):
        losses.clipped_value_loss(ones, ones, ones, column)
    with pytest.raises(ValueError, match="kl_coef must be a scalar"):
        rlhf.losses.dpo_loss(ones, ones, ones, ones, column)
