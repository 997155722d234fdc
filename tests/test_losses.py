"""Losses and their gradients against derivations by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax import losses
from tests.oracles import losses as oracle

RNG = np.random.default_rng(0)
VALUES, OLD_VALUES, TARGETS = RNG.normal(size=(3, 64))


def test_policy_gradient_loss(x64):
    log_probs, weights = VALUES, TARGETS
    value, grads = jax.value_and_grad(losses.policy_gradient_loss, (0, 1))(
        log_probs, weights
    )
    np.testing.assert_allclose(value, -(log_probs * weights).mean(), rtol=1e-12)
    np.testing.assert_allclose(grads[0], -weights / 64, rtol=1e-12)
    np.testing.assert_array_equal(grads[1], 0.0)


def test_value_loss(x64):
    value, grad = jax.value_and_grad(losses.value_loss)(VALUES, TARGETS)
    np.testing.assert_allclose(value, 0.5 * ((VALUES - TARGETS) ** 2).mean())
    np.testing.assert_allclose(grad, (VALUES - TARGETS) / 64, rtol=1e-12)


def test_clipped_value_loss(x64):
    value, grad = jax.value_and_grad(losses.clipped_value_loss)(
        VALUES, OLD_VALUES, TARGETS, 0.2
    )
    expected = oracle.clipped_value(VALUES, OLD_VALUES, TARGETS, 0.2)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(grad, expected[1], rtol=1e-12)
    assert 0 < np.count_nonzero(expected[1]) < 64


def test_ppo_clip_loss(x64):
    behaviour = OLD_VALUES - 2.0
    log_probs = behaviour + 0.4 * VALUES
    value, grad = jax.value_and_grad(losses.ppo_clip_loss)(
        log_probs, behaviour, TARGETS, 0.2
    )
    expected = oracle.ppo_clip(log_probs, behaviour, TARGETS, 0.2)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(grad, expected[1], rtol=1e-12)
    assert 0 < np.count_nonzero(expected[1]) < 64


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
