"""The categorical distribution, parametrised by logits.

The `categorical_` functions take logits [..., A] and reduce the last axis. A logit of
−∞ masks its action: it is never sampled, and values and gradients stay finite where
they should.

Source of the formulas: Cover and Thomas (2006), chapter 2; Devroye (1986), §III.2.
"""

import jax
import jax.numpy as jnp

from rljax import checks, random


def greedy(scores: jax.Array) -> jax.Array:
    """argmax_a of action values, or of logits: the mode of their distribution.

    Args:
      scores: [..., A].

    Returns:
      [...] int32, ties to the lowest action.
    """
    return jnp.argmax(scores, axis=-1).astype(jnp.int32)


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
    checks.same_shape(logits=logits, reference_logits=reference_logits)
    log_probs = jax.nn.log_softmax(logits)
    reference_log_probs = jax.nn.log_softmax(reference_logits)
    probs = jnp.exp(log_probs)
    # The two are masked one by one, since −∞ − (−∞) is NaN for what both exclude.
    log_probs = jnp.where(probs > 0, log_probs, 0)
    reference_log_probs = jnp.where(probs > 0, reference_log_probs, 0)
    return jnp.sum(probs * (log_probs - reference_log_probs), axis=-1)


def categorical_sample(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Draws a ~ π: `categorical_quantile` at one uniform word.

    It needs one random word per decision, where the Gumbel trick needs A.

    Args:
      logits: [..., A] floating; with a batch shape, one draw for each.
      key: random key.

    Returns:
      [...] int32 actions in [0, A).
    """
    dtype = jnp.promote_types(jnp.result_type(logits), jnp.float32)
    u = random.uniform(key, jnp.shape(logits)[:-1], dtype)
    return categorical_quantile(logits, u)


def categorical_quantile(logits: jax.Array, u: jax.Array) -> jax.Array:
    """The action at which the cumulative distribution passes u: its inverse.

    The probabilities are added up in the order of the actions, but with the most
    probable action last. So rare actions are added to a small sum, where they are not
    lost to rounding: each is drawn with its probability to some 2⁻²⁴ of the probability
    that all actions but the best have together. An action of probability 0 is never
    drawn. NaN logits give action 0.

    Args:
      logits: [..., A] floating.
      u: [...] floating in [0, 1), as fine near 0 as `random.uniform`.

    Returns:
      [...] int32 actions in [0, A).
    """
    # In half precision, adding a small probability to the sum would not change it.
    dtype = jnp.promote_types(jnp.result_type(logits), jnp.float32)
    probs = jax.nn.softmax(jnp.asarray(logits, dtype))
    num_actions = probs.shape[-1]
    actions = jax.lax.iota(jnp.int32, num_actions)
    best = greedy(probs)
    is_best = actions == best[..., None]
    cumulative = cumulative_probs(jnp.where(is_best, 0, probs))
    total = jnp.max(cumulative, axis=-1) + jnp.max(probs, axis=-1)
    passed = cumulative > (u * total)[..., None]
    first = jnp.min(jnp.where(passed, actions, num_actions), axis=-1)
    return jnp.where(first < num_actions, first, best)


def cumulative_probs(probs: jax.Array) -> jax.Array:
    """c_a = Σ_{b≤a} p(b) where p(a) > 0, else 0.

    XLA sums long arrays in blocks, so rounding may make the sum rise or fall by a last
    bit where nothing is added. Entries of probability 0 are therefore set to 0, so that
    they are never drawn; take a running maximum where the rest must ascend.

    Args:
      probs: [..., A] p, floating.

    Returns:
      [..., A] c.
    """
    return jnp.where(probs > 0, jnp.cumsum(probs, axis=-1), 0)
