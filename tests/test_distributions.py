"""The categorical distribution against formulas by hand and SciPy's tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rljax import distributions as d
from tests.oracles import losses as oracle

RNG = np.random.default_rng(0)
LOGITS, REFERENCE = 2 * RNG.normal(size=(2, 16, 5))
ACTIONS = RNG.integers(5, size=16)


def test_log_prob_and_gradient(x64):
    out = d.categorical_log_prob(LOGITS, ACTIONS)
    expected = oracle.log_softmax(LOGITS)[np.arange(16), ACTIONS]
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    for logits, action in zip(LOGITS, ACTIONS, strict=True):
        np.testing.assert_allclose(
            jax.grad(d.categorical_log_prob)(logits, action),
            oracle.log_prob_gradient(logits, action),
            rtol=1e-12,
        )


def test_entropy_and_kl_and_gradients(x64):
    for logits, reference in zip(LOGITS, REFERENCE, strict=True):
        pi, rho = np.exp(oracle.log_softmax(logits)), oracle.log_softmax(reference)
        np.testing.assert_allclose(
            d.categorical_entropy(logits), stats.entropy(pi), rtol=1e-12
        )
        np.testing.assert_allclose(
            d.categorical_kl(logits, reference), stats.entropy(pi, np.exp(rho))
        )
        np.testing.assert_allclose(
            jax.grad(d.categorical_entropy)(logits),
            oracle.entropy_gradient(logits),
            rtol=1e-10,
            atol=1e-14,
        )
        np.testing.assert_allclose(
            jax.grad(d.categorical_kl)(logits, reference),
            oracle.kl_gradient(logits, reference),
            rtol=1e-10,
            atol=1e-14,
        )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_huge_and_masked_logits_stay_finite(scale):
    logits = scale * jnp.array([0.0, 1.0, -jnp.inf, 0.5])
    assert jnp.isfinite(d.categorical_entropy(logits))
    assert jnp.isfinite(jax.grad(d.categorical_entropy)(logits)).all()
    assert d.categorical_kl(logits, logits) == 0
    assert jnp.isfinite(jax.grad(d.categorical_log_prob)(logits, 1)).all()
    assert d.categorical_kl(jnp.zeros(4), logits) == jnp.inf


def test_sampling_frequencies(key):
    logits = jnp.array([0.0, 1.0, -1.0, 2.0, 0.5])
    draws = jax.vmap(lambda k: d.categorical_sample(logits, k))(
        jax.random.split(key, 2_000_000)
    )
    assert draws.dtype == jnp.int32
    counts = np.bincount(draws, minlength=5)
    expected = np.exp(oracle.log_softmax(np.asarray(logits, float))) * 2_000_000
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("masked", [[0], [4], [1, 2], [0, 4], [1, 2, 3, 4]])
def test_an_action_of_probability_0_is_never_drawn(key, masked):
    logits = jnp.zeros(5).at[jnp.array(masked)].set(-jnp.inf)
    draws = d.categorical_sample(jnp.tile(logits, (50_000, 1)), key)
    assert not np.isin(draws, masked).any()
    assert ((draws >= 0) & (draws < 5)).all()


def test_sample_is_the_inverse_of_the_cumulative_distribution(key):
    logits = jnp.asarray(LOGITS, jnp.float32)
    u = np.asarray(jax.random.uniform(key, (16, 1)))[:, 0]
    cumulative = np.cumsum(np.asarray(jax.nn.softmax(logits)), axis=1)
    expected = [
        np.searchsorted(c, x * c[-1], side="right")
        for c, x in zip(cumulative, u, strict=True)
    ]
    np.testing.assert_array_equal(d.categorical_sample(logits, key), expected)


def test_half_precision_keeps_rare_actions(key):
    logits = jnp.zeros(1000, jnp.bfloat16)
    draws = d.categorical_sample(jnp.broadcast_to(logits, (20_000, 1000)), key)
    # 1000 · (1 − e^−20): each action is drawn some 20 times.
    assert len(np.unique(draws)) == 1000


def test_kl_where_both_exclude_an_action():
    logits = jnp.array([0.0, 1.0, -jnp.inf])
    with jax.debug_nans(True):
        assert d.categorical_kl(logits, logits + 1.0) == 0


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"got \(1,\) for logits \(3, 2\)"):
        d.categorical_log_prob(jnp.zeros((3, 2)), jnp.zeros(1, int))
    with pytest.raises(ValueError, match="must have one shape"):
        d.categorical_kl(jnp.zeros((3, 2)), jnp.zeros((3, 1)))
