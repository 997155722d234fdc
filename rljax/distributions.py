"""The categorical distribution, parametrised by logits, and estimates of divergences.

The `categorical_` functions take logits [..., A] and reduce the last axis. A logit of
−∞ masks its action: it is never sampled, and values and gradients stay finite where
they should.

Source of the formulas: Cover and Thomas (2006), chapter 2; Devroye (1986), §III.2.
"""

import jax
import jax.numpy as jnp

from rljax import random


def categorical_log_prob(logits: jax.Array, actions: jax.typing.ArrayLike) -> jax.Array:
    """log π(a) = logits_a − log Σ_b exp(logits_b).

    Its gradient with respect to the logits is one_hot(a) − π.

    Args:
      logits: [..., A] floating.
      actions: [...] integer in [0, A).

    Returns:
      [...] log-probabilities.

    Raises:
      ValueError: the shapes do not fit.
    """
    if jnp.shape(logits)[:-1] != jnp.shape(actions):
        raise ValueError(
            "actions must have the shape of logits without its last axis, got "
            f"{jnp.shape(actions)} for logits {jnp.shape(logits)}."
        )
    log_probs = jax.nn.log_softmax(logits)
    indices = jnp.asarray(actions)[..., None]
    return jnp.take_along_axis(log_probs, indices, axis=-1).squeeze(-1)


def categorical_entropy(logits: jax.Array) -> jax.Array:
    """H(π) = −Σ_a π(a) log π(a), in nats, with 0·log 0 = 0.

    Args:
      logits: [..., A] floating.

    Returns:
      [...] entropies in [0, log A].
    """
    log_probs = jax.nn.log_softmax(logits)
    probs = jnp.exp(log_probs)
    return -jnp.sum(probs * jnp.where(probs > 0, log_probs, 0), axis=-1)


def categorical_kl(logits: jax.Array, reference_logits: jax.Array) -> jax.Array:
    """KL(π‖π_ref) = Σ_a π(a) (log π(a) − log π_ref(a)), in nats.

    Args:
      logits: [..., A] floating, of π.
      reference_logits: [..., A] floating, of π_ref.

    Returns:
      [...] divergences, 0 or more; +∞ where π_ref excludes what π allows.

    Raises:
      ValueError: the shapes differ.
    """
    if jnp.shape(logits) != jnp.shape(reference_logits):
        raise ValueError(
            f"logits and reference_logits must have one shape, got {jnp.shape(logits)} "
            f"and {jnp.shape(reference_logits)}."
        )
    log_probs = jax.nn.log_softmax(logits)
    reference_log_probs = jax.nn.log_softmax(reference_logits)
    probs = jnp.exp(log_probs)
    # Each by itself: −∞ − (−∞) of an action that both exclude would be NaN.
    log_probs = jnp.where(probs > 0, log_probs, 0)
    reference_log_probs = jnp.where(probs > 0, reference_log_probs, 0)
    return jnp.sum(probs * (log_probs - reference_log_probs), axis=-1)


def kl_k1(log_probs: jax.Array, reference_log_probs: jax.Array) -> jax.Array:
    """k1 = log π(a) − log ρ(a), an estimate of KL(π‖ρ) from a ~ π.

    Unbiased, with much variance and either sign. Differentiate something else: its
    gradient is that of log π(a), whose mean over a ~ π is 0.

    Args:
      log_probs: [...] log π(a) of any distribution π, not categorical ones alone.
      reference_log_probs: [...] log ρ(a).

    Returns:
      [...] one estimate for each a.

    Raises:
      ValueError: the shapes differ.

    Source: Schulman (2020), Approximating KL divergence.
    """
    return _log_ratios(log_probs, reference_log_probs)


def kl_k2(log_probs: jax.Array, reference_log_probs: jax.Array) -> jax.Array:
    """k2 = ½ (log π(a) − log ρ(a))², an estimate of KL(π‖ρ) from a ~ π.

    Never negative; biased in the third order of the log-ratios. The mean over a ~ π of
    its gradient is that of KL(π‖ρ), exactly.

    Arguments, results and source as for `kl_k1`.
    """
    return jnp.square(_log_ratios(log_probs, reference_log_probs)) / 2


def kl_k3(log_probs: jax.Array, reference_log_probs: jax.Array) -> jax.Array:
    """k3 = ρ(a)/π(a) − 1 − log ρ(a)/π(a), an estimate of KL(π‖ρ) from a ~ π.

    Unbiased where π(a) = 0 implies ρ(a) = 0, and never negative. The mean over a ~ π of
    its gradient is that of the *other* divergence, KL(ρ‖π).

    Arguments, results and source as for `kl_k1`.
    """
    log_ratio = _log_ratios(log_probs, reference_log_probs)
    return jnp.expm1(-log_ratio) + log_ratio


def _log_ratios(log_probs, reference_log_probs):
    if jnp.shape(log_probs) != jnp.shape(reference_log_probs):
        raise ValueError(
            f"log_probs and reference_log_probs must have one shape, got "
            f"{jnp.shape(log_probs)} and {jnp.shape(reference_log_probs)}."
        )
    return jnp.asarray(log_probs) - jnp.asarray(reference_log_probs)


def bernoulli_kl(mean: jax.Array, gap: jax.Array) -> jax.Array:
    """kl(p, p+Δ) = p ln(p/(p+Δ)) + (1−p) ln((1−p)/(1−p−Δ)), digits kept for small Δ.

    As p h(Δ/p) + (1−p) h(−Δ/(1−p)), h(x) = x − ln(1 + x), in which what is linear in Δ
    has cancelled.

    Args:
      mean: [...] p in [0, 1].
      gap: [...] Δ in [0, 1−p].

    Returns:
      [...] in nats, ∞ for Δ = 1−p > 0.

    Source: Kullback and Leibler (1951); Garivier and Cappé (2011), arXiv:1102.2490.
    """
    own = jnp.where(mean > 0, mean, 1)
    wins = jnp.where(mean > 0, own * _log1p_gap(gap / own), gap)
    rest = jnp.where(gap > 0, 1 - mean, 1)
    return wins + rest * _log1p_gap(-gap / rest)


def _log1p_gap(x: jax.Array) -> jax.Array:
    """x − ln(1 + x), without cancellation near 0."""
    small = jnp.where(jnp.abs(x) < 0.1, x, 0)
    series = sum((-1) ** k * small**k / k for k in range(2, 14))
    return jnp.where(jnp.abs(x) < 0.1, series, x - jnp.log1p(x))


def categorical_sample(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Draws a ~ π: `categorical_quantile` at one uniform word.

    One word per decision costs less than the Gumbel trick's A.

    Args:
      logits: [..., A] floating; with a batch shape, one draw for each.
      key: random key.

    Returns:
      [...] int32 actions in [0, A).
    """
    dtype = jnp.promote_types(jnp.result_type(logits), jnp.float32)
    u = jax.random.uniform(random.unrolled(key), jnp.shape(logits)[:-1], dtype)
    return categorical_quantile(logits, u)


def categorical_quantile(logits: jax.Array, u: jax.Array) -> jax.Array:
    """The action at which the cumulative distribution passes u: its inverse.

    a is the first action of a probability above 0 whose cumulative probability is more
    than u·c, with the total c, which is 1 up to rounding. u·c < c holds in floating
    point as well, so for u in [0, 1) there is one; where logits are NaN, a is 0.

    Args:
      logits: [..., A] floating.
      u: [...] floating in [0, 1).

    Returns:
      [...] int32 actions in [0, A).
    """
    # In half precision the cumulative sum would swallow small probabilities.
    dtype = jnp.promote_types(jnp.result_type(logits), jnp.float32)
    probs = jax.nn.softmax(jnp.asarray(logits, dtype))
    cumulative = cumulative_probs(probs)
    total = jnp.max(cumulative, axis=-1, keepdims=True)
    num_actions = probs.shape[-1]
    actions = jax.lax.iota(jnp.int32, num_actions)
    passed = cumulative > u[..., None] * total
    first = jnp.min(jnp.where(passed, actions, num_actions), axis=-1)
    return jnp.where(first < num_actions, first, 0)


def cumulative_probs(probs: jax.Array) -> jax.Array:
    """c_a = Σ_{b≤a} p(b) where p(a) > 0, else 0.

    XLA sums long arrays in blocks: from entry to entry the sum may then rise by a
    rounding where nothing is added, and fall. So what can't be drawn is left out; a
    running maximum makes the rest ascend.

    Args:
      probs: [..., A] p, floating.

    Returns:
      [..., A] c.
    """
    return jnp.where(probs > 0, jnp.cumsum(probs, axis=-1), 0)
