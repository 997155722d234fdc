"""The categorical distribution against formulas by hand and SciPy's tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from rljax import distributions as d
from rljax import exploration, random
from rljax.rlhf import kl
from tests.comparison import PLAIN, REALS, arrays, assert_equals_oracle
from tests.oracles import distributions as oracle

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(16, 5))
HUGE = st.sampled_from([-1e4, -300.0, 0.0, 300.0, 1e4])


@st.composite
def batches(draw, *parts):
    """Two batches of logits, references or actions, as `parts` say, and weights."""
    size, num_actions = draw(st.sampled_from([(1, 1), (1, 3), (4, 2), (3, 5)]))
    elements = draw(st.sampled_from([REALS, REALS | HUGE]))
    kinds = {
        "logits": arrays((size, num_actions), elements),
        "action": hnp.arrays(np.int32, size, elements=st.integers(0, num_actions - 1)),
    }
    chosen = [*(kinds[part] for part in parts), arrays(size)]
    return [tuple(draw(part) for part in chosen) for _ in range(2)]


def rows(gradient, weights, *args):
    """w_b times the gradient of each row."""
    each = zip(weights, *args, strict=True)
    return np.stack([w * gradient(*row) for w, *row in each])


@given(batches("logits", "action"), PLAIN)
def test_log_prob_equals_its_derivation(cases, plain):
    def expected(logits, actions, weights):
        value = oracle.log_softmax(logits)[np.arange(len(actions)), actions]
        return value, (rows(oracle.log_prob_gradient, weights, logits, actions),)

    assert_equals_oracle(
        d.categorical_log_prob, expected, cases, argnums=(0,), plain=plain
    )


@given(batches("logits"), PLAIN)
def test_entropy_equals_its_derivation(cases, plain):
    def expected(logits, weights):
        gradient = rows(oracle.entropy_gradient, weights, logits)
        return oracle.entropy(logits), (gradient,)

    assert_equals_oracle(
        d.categorical_entropy, expected, cases, argnums=(0,), plain=plain
    )


@given(batches("logits", "logits"), PLAIN)
def test_kl_equals_its_derivation_in_both_arguments(cases, plain):
    def expected(logits, reference, weights):
        gradients = (
            rows(oracle.kl_gradient, weights, logits, reference),
            rows(oracle.kl_reference_gradient, weights, logits, reference),
        )
        return oracle.kl(logits, reference), gradients

    # d − KL cancels in the gradient, with d as large as the logits, times weights.
    largest = max(np.abs(x).max() for case in cases for x in case[:2])
    weight = max(np.abs(case[2]).max() for case in cases)
    assert_equals_oracle(
        d.categorical_kl,
        expected,
        cases,
        argnums=(0, 1),
        plain=plain,
        scale=largest * weight,
    )


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
@given(st.data(), st.sampled_from([1, 6]), PLAIN)
def test_estimates_of_kl_equal_their_derivation(name, data, size, plain):
    def expected(log_probs, reference_log_probs, weights):
        value, slope = getattr(oracle, name)(log_probs, reference_log_probs)
        return value, (weights * slope, -weights * slope)

    cases = [tuple(data.draw(arrays(size)) for _ in range(3)) for _ in range(2)]
    assert_equals_oracle(
        getattr(kl, f"kl_{name}"), expected, cases, argnums=(0, 1), plain=plain
    )


@pytest.mark.parametrize(
    ("estimate", "unbiased", "mean_gradient"),
    [
        (kl.kl_k1, True, lambda z, w: 0 * z),
        (kl.kl_k2, False, oracle.kl_gradient),
        (kl.kl_k3, True, lambda z, w: oracle.kl_reference_gradient(w, z)),
    ],
    ids=["k1", "k2", "k3"],
)
def test_bias_of_value_and_gradient_by_enumeration(
    x64, estimate, unbiased, mean_gradient
):
    logits, reference = np.array([0.3, -1.0, 1.2, 0.1]), np.array([0.0, 0.5, -0.4, 1.0])
    pi = np.exp(oracle.log_softmax(logits))

    def estimates(z):
        every = jnp.arange(4)
        log_probs = jax.vmap(d.categorical_log_prob, (None, 0))
        return estimate(log_probs(z, every), log_probs(reference, every))

    error = pi @ np.asarray(estimates(logits)) - oracle.kl(logits, reference)
    assert (abs(error) < 1e-14) == unbiased
    gradient = pi @ np.asarray(jax.jacobian(estimates)(jnp.asarray(logits)))
    expected = mean_gradient(logits, reference)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)


def test_formulas_agree_with_scipy(x64):
    reference = LOGITS[::-1]
    pi, rho = np.exp(oracle.log_softmax(LOGITS)), np.exp(oracle.log_softmax(reference))
    np.testing.assert_allclose(
        d.categorical_entropy(LOGITS), stats.entropy(pi, axis=-1), rtol=1e-12
    )
    np.testing.assert_allclose(
        d.categorical_kl(LOGITS, reference), stats.entropy(pi, rho, axis=-1), rtol=1e-12
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_huge_and_masked_logits_stay_finite(scale):
    logits = scale * jnp.array([0.0, 1.0, -jnp.inf, 0.5])
    assert jnp.isfinite(d.categorical_entropy(logits))
    assert jnp.isfinite(jax.grad(d.categorical_entropy)(logits)).all()
    assert d.categorical_kl(logits, logits) == 0
    assert jnp.isfinite(jax.grad(d.categorical_log_prob)(logits, 1)).all()
    assert d.categorical_kl(jnp.zeros(4), logits) == jnp.inf


def test_no_action_is_drawn_where_all_are_masked(key):
    """An action of 0, drawn without a word, is one that the mask forbids."""
    masked = jnp.array([[0.0, -jnp.inf], [-jnp.inf, -jnp.inf]])
    actions = jnp.zeros(2, int)

    @jax.jit
    def everything(logits):
        chosen = (
            d.categorical_sample(logits, key),
            d.categorical_quantile(logits, jnp.full(2, 0.75)),
            d.categorical_mode(logits),
        )
        values = (
            d.categorical_log_prob(logits, actions),
            d.categorical_entropy(logits),
            d.categorical_kl(logits, logits),
            jax.vmap(jax.grad(d.categorical_entropy))(logits)[:, 0],
        )
        return chosen, values

    chosen, values = everything(masked)
    for action in chosen:
        assert action.tolist() == [0, -1]
    for value in values:
        assert value[0] == 0 and np.isnan(value[1])
    # What is not traced is refused by its value.
    message = r"logits\[1\] must allow an action, but all 2 logits are −inf"
    for function in (
        lambda z: d.categorical_sample(z, key),
        lambda z: d.categorical_quantile(z, jnp.ones(2)),
        d.categorical_mode,
        lambda z: d.categorical_log_prob(z, actions),
        d.categorical_entropy,
        lambda z: d.categorical_kl(z, z),
        lambda z: jax.jit(lambda: d.categorical_entropy(z))(),
    ):
        with pytest.raises(ValueError, match=message):
            function(masked)
    with pytest.raises(ValueError, match=r"reference_logits must allow an action"):
        d.categorical_kl(masked[0], masked[1])


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


def test_of_many_actions_none_of_probability_0_is_drawn():
    # XLA sums 4096 numbers in blocks, and so not from one to the next. With these words
    # the sum rose by a rounding at an action that is masked.
    rng = np.random.default_rng(0)
    logits = rng.normal(size=4096).astype(np.float32)
    logits[rng.random(4096) < 0.5] = -np.inf
    first = 0.3232463598251343
    words = np.append(np.float32(first), rng.random(10_000, np.float32))
    actions = jax.jit(jax.vmap(d.categorical_quantile, (None, 0)))(logits, words)
    assert np.isfinite(logits[actions]).all()
    ends = d.categorical_quantile(logits, np.array([0.0, 1 - 2**-24], np.float32))
    assert d.categorical_quantile(jnp.full(4, jnp.nan), jnp.float32(0.5)) == -1
    allowed = np.flatnonzero(np.isfinite(logits))
    np.testing.assert_array_equal(ends, [allowed[0], logits.argmax()])


def test_sample_is_the_inverse_of_the_cumulative_distribution(key):
    logits = jnp.asarray(LOGITS, jnp.float32)
    u = np.asarray(random.uniform(key, (16,)))
    expected = []
    for probs, x in zip(np.asarray(jax.nn.softmax(logits)), u, strict=True):
        # The most probable action comes last.
        best = probs.argmax()
        order = [*np.delete(np.arange(len(probs)), best), best]
        passed = np.searchsorted(np.cumsum(probs[order])[:-1], x, side="right")
        expected.append(order[passed])
    np.testing.assert_array_equal(d.categorical_sample(logits, key), expected)


@pytest.mark.parametrize("best", [0, 500, 1000])
def test_rare_actions_keep_their_share(best):
    # A thousand actions of 1e-7 each beside one of 0.9999: a sum that began with that
    # one would grow in steps of 6e-8.
    logits = np.full(1001, np.log(1e-7))
    logits[best] = np.log(0.9999)
    u = (np.arange(1000) + 0.5) * 1e-7
    drawn = jax.vmap(d.categorical_quantile, (None, 0))(
        jnp.asarray(logits, jnp.float32), jnp.asarray(u, jnp.float32)
    )
    np.testing.assert_array_equal(drawn, np.delete(np.arange(1001), best))


@pytest.mark.slow
def test_half_precision_keeps_rare_actions(key):
    logits = jnp.zeros(1000, jnp.bfloat16)
    draws = d.categorical_sample(jnp.broadcast_to(logits, (20_000, 1000)), key)
    # 1000 · (1 − e^−20): each action is drawn some 20 times.
    assert len(np.unique(draws)) == 1000


def test_k3_of_a_stale_sample_is_bounded():
    """By hand: k3 = e^−d − 1 + d, with slope 1 − e^−d, and d clipped to [−20, 20]."""
    log_probs, reference = jnp.array([-200.0, 200.0, -2.0]), jnp.zeros(3)

    def total(x, bound=None):
        return kl.kl_k3(x, reference, bound).sum()

    assert kl.kl_k3(log_probs, reference)[0] == jnp.inf
    assert jax.grad(total)(log_probs)[0] == -jnp.inf
    expected = [np.expm1(20) - 20, np.expm1(-20) + 20, np.expm1(2) - 2]
    for bound in (20.0, jnp.bfloat16(20)):
        found = kl.kl_k3(log_probs, reference, bound)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        slope = jax.grad(total)(log_probs, bound)
        np.testing.assert_allclose(slope, [0, 0, 1 - np.exp(2)], rtol=1e-6)
    with pytest.raises(ValueError, match="max_log_ratio must be None or more than 0"):
        kl.kl_k3(log_probs, reference, -20.0)


def test_kl_where_both_exclude_an_action():
    logits = jnp.array([0.0, 1.0, -jnp.inf])
    with jax.debug_nans(True):
        assert d.categorical_kl(logits, logits + 1.0) == 0


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"got \(1,\) for logits \(3, 2\)"):
        d.categorical_log_prob(jnp.zeros((3, 2)), jnp.zeros(1, int))
    with pytest.raises(ValueError, match="must have one shape"):
        d.categorical_kl(jnp.zeros((3, 2)), jnp.zeros((3, 1)))
    with pytest.raises(ValueError, match=r"got \(3,\) and \(3, 1\)"):
        kl.kl_k3(jnp.zeros(3), jnp.zeros((3, 1)))


def test_kl_of_bernoulli_distributions_keeps_its_digits():
    p, gap = np.array([0.0, 0.3, 0.5, 0.9]), np.array([0.2, 0.1, 1e-2, 0.05])
    q = p + gap
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(p > 0, p * np.log(p / q), 0) + (1 - p) * np.log(
            (1 - p) / (1 - q)
        )
    np.testing.assert_allclose(
        exploration.bernoulli_kl(jnp.float32(p), jnp.float32(gap)), expected, rtol=1e-5
    )
    # For a small gap Δ²/(2 p (1 − p)), which the difference of logarithms would lose.
    tiny = exploration.bernoulli_kl(jnp.float32(0.5), jnp.float32(1e-5))
    np.testing.assert_allclose(tiny, 2e-10, rtol=1e-3)
    assert exploration.bernoulli_kl(jnp.float32(0.25), jnp.float32(0.75)) == jnp.inf
    assert exploration.bernoulli_kl(jnp.float32(1), jnp.float32(0)) == 0


def test_a_quantile_of_probabilities_that_are_known(key):
    # The most probable comes last: 1, 3, then 0 from three eighths of the sum on.
    probs = jnp.array([5.0, 1.0, 0.0, 2.0])
    words = jnp.array([0.0, 0.124, 0.126, 0.374, 0.376, 0.999])
    found = jax.vmap(d.quantile, (None, 0))(probs, words)
    np.testing.assert_array_equal(found, [1, 1, 3, 3, 0, 0])
    assert d.quantile(jnp.zeros(3), 0.5) == -1
    logits = jax.random.normal(key, (100, 4))
    words = jax.random.uniform(key, (100,))
    np.testing.assert_array_equal(
        d.quantile(jax.nn.softmax(logits), words),
        d.categorical_quantile(logits, words),
    )
