"""The categorical distribution, parametrised by logits.

The `categorical_` functions take logits [..., A] and reduce the last axis. Logits of
half precision are computed with in float32, which is then the dtype of the results.

A logit of −∞ masks its action: it is never sampled, and values and gradients stay
finite where they should. Where all actions of a row are masked, there is no
distribution. Every function raises ValueError if it sees that, which it can't while it
is traced, as inside of jit. There log-probability, entropy and KL are NaN, and so is
what is learned from them; a drawn action is −1, which no action space holds.

Source of the formulas: Cover and Thomas (2006), chapter 2; Devroye (1986), §III.2.
"""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, random, struct
from rljax.distributions.base import Distribution


@struct.dataclass
class Categorical(Distribution):
    """One of A actions: the functions of this module as methods."""

    logits: Any = None
    """[..., A] floating; −∞ masks an action."""
    num_actions: int = struct.static(default=0)
    """A, where there are no logits yet."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """Logits [A]."""
        return (self.num_actions,)

    def given(self, outputs: Any) -> Self:
        """With logits [..., A]."""
        return dataclasses.replace(self, logits=outputs)

    def draw(self, key: jax.Array) -> jax.Array:
        """`categorical_sample`, [...] int32."""
        return categorical_sample(self.logits, key)

    def draw_log_prob(self, draw: Any) -> jax.Array:
        """`categorical_log_prob`, [...]."""
        return categorical_log_prob(self.logits, draw)

    def entropy(self) -> jax.Array:
        """`categorical_entropy`, [...]."""
        return categorical_entropy(self.logits)

    def mode(self) -> jax.Array:
        """`categorical_mode`, [...] int32."""
        return categorical_mode(self.logits)

    def kl(self, other: Any) -> jax.Array:
        """`categorical_kl`, [...]."""
        return categorical_kl(self.logits, other.logits)


@struct.dataclass
class MultiCategorical(Distribution):
    """D independent choices, each among actions of its own: sums over the choices.

    log π(a) = Σ_d log π_d(a_d),   H(π) = Σ_d H(π_d),   KL = Σ_d KL_d
    """

    logits: Any = None
    """[..., D, A] floating, A the most actions of a choice; −∞ where a choice has no
    such action, or masks it."""
    sizes: tuple[int, ...] = struct.static(default=())
    """The number of actions of each choice."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """The logits of all choices, one after the other: [Σ sizes]."""
        return (sum(self.sizes),)

    def given(self, outputs: Any) -> Self:
        """With the logits of all choices one after the other, [..., Σ sizes]."""
        logits = checks.rows(logits=outputs)
        inside = np.arange(max(self.sizes)) < np.array(self.sizes)[:, None]
        place = np.where(inside, np.cumsum(inside).reshape(inside.shape) - 1, 0)
        padded = jnp.where(inside, logits[..., place], -jnp.inf)
        return dataclasses.replace(self, logits=padded)

    def draw(self, key: jax.Array) -> jax.Array:
        """An action of each choice, [..., D] int32."""
        return categorical_sample(self.logits, key)

    def draw_log_prob(self, draw: Any) -> jax.Array:
        """log π of actions [..., D], [...]."""
        return jnp.sum(categorical_log_prob(self.logits, draw), axis=-1)

    def entropy(self) -> jax.Array:
        """H(π), [...]."""
        return jnp.sum(categorical_entropy(self.logits), axis=-1)

    def mode(self) -> jax.Array:
        """The most probable action of each choice, [..., D] int32."""
        return categorical_mode(self.logits)

    def kl(self, other: Any) -> jax.Array:
        """KL(π‖other), [...]."""
        return jnp.sum(categorical_kl(self.logits, other.logits), axis=-1)


def greedy(scores: jax.Array) -> jax.Array:
    """argmax_a of action values, or of logits: the mode of their distribution.

    Args:
      scores: [..., A].

    Returns:
      [...] int32, ties to the lowest action.
    """
    checks.rows(scores=scores)
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
      TypeError: actions are no integers.
      ValueError: the shapes do not fit.
    """
    (actions,) = checks.integers(actions=actions)
    logits = _checked(logits=logits)
    if logits.shape[:-1] != actions.shape:
        raise ValueError(
            "actions must have the shape of logits without its last axis, got "
            f"{actions.shape} for logits {logits.shape}."
        )
    log_probs = jax.nn.log_softmax(logits)
    return jnp.take_along_axis(log_probs, actions[..., None], axis=-1).squeeze(-1)


def categorical_entropy(logits: jax.Array) -> jax.Array:
    """H(π) = −Σ_a π(a) log π(a), in nats, with 0·log 0 = 0.

    Args:
      logits: [..., A] floating.

    Returns:
      [...] entropies in [0, log A].
    """
    log_probs = jax.nn.log_softmax(_checked(logits=logits))
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
    log_probs = jax.nn.log_softmax(_checked(logits=logits))
    reference_log_probs = jax.nn.log_softmax(
        _checked(reference_logits=reference_logits)
    )
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
    logits = _checked(logits=logits)
    u = random.uniform(key, logits.shape[:-1], logits.dtype)
    return categorical_quantile(logits, u)


def categorical_mode(logits: jax.Array) -> jax.Array:
    """argmax_a π(a), ties to the lowest action.

    Args:
      logits: [..., A] floating.

    Returns:
      [...] int32 actions in [0, A); −1 where all are masked, and for NaN logits.
    """
    logits = _checked(logits=logits)
    return jnp.where(jnp.max(logits, axis=-1) > -jnp.inf, greedy(logits), -1)


def categorical_quantile(logits: jax.Array, u: jax.Array) -> jax.Array:
    """The action at which the cumulative distribution passes u: its inverse.

    The probabilities are added up in the order of the actions, but with the most
    probable action last. So rare actions are added to a small sum, where they are not
    lost to rounding: each is drawn with its probability to some 2⁻²⁴ of the probability
    that all actions but the best have together. An action of probability 0 is never
    drawn.

    Args:
      logits: [..., A] floating.
      u: [...] floating in [0, 1), as fine near 0 as `random.uniform`.

    Returns:
      [...] int32 actions in [0, A); −1 where all are masked, and for NaN logits.
    """
    # In half precision, adding a small probability to the sum would not change it.
    return quantile(jax.nn.softmax(_checked(logits=logits)), u)


def quantile(probs: jax.Array, u: jax.Array) -> jax.Array:
    """`categorical_quantile` of probabilities that are known already.

    Args:
      probs: [..., A] p, float32 or float64, 0 or more; they need not sum to 1.
      u: [...] floating in [0, 1), as fine near 0 as `random.uniform`.

    Returns:
      [...] int32 in [0, A); −1 where all are 0, and for NaN.
    """
    (u,) = checks.floating(u=u)
    num_actions = probs.shape[-1]
    actions = jax.lax.broadcasted_iota(jnp.int32, probs.shape, probs.ndim - 1)
    best = greedy(probs)
    is_best = actions == best[..., None]
    cumulative = cumulative_probs(jnp.where(is_best, 0, probs))
    total = jnp.max(cumulative, axis=-1) + jnp.max(probs, axis=-1)
    passed = cumulative > (u * total)[..., None]
    first = jnp.min(jnp.where(passed, actions, num_actions), axis=-1)
    best = jnp.where(total > 0, best, -1)  # a total of NaN is not above 0
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


def _checked(**logits: jax.Array) -> jax.Array:
    """The one argument in float32 or float64, if each row has an action to choose.

    Raises:
      TypeError: it does not hold real numbers.
      ValueError: it has no actions, or a row is all −∞ and it is not traced.
    """
    ((name, rows),) = logits.items()
    rows = checks.rows(**logits)
    if not isinstance(rows, Tracer):
        with jax.ensure_compile_time_eval():  # inside of jit, of a constant
            masked = np.asarray(jnp.max(rows, axis=-1) == -jnp.inf)
        if masked.any():
            where = np.argwhere(masked)[0].tolist() if masked.ndim else ""
            raise ValueError(
                f"{name}{where} must allow an action, but all {rows.shape[-1]} logits "
                "are −inf: the mask of actions left none."
            )
    return rows
