"""The rules that need no randomness, and the update of the gradient bandit.

See the package's docstring for `q_values` and `counts`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rljax import checks
from rljax.distributions import greedy


def ucb(
    q_values: jax.Array,
    counts: jax.Array,
    t: jax.typing.ArrayLike,
    c: jax.typing.ArrayLike,
) -> jax.Array:
    """argmax_a Q(a) + c sqrt(ln(t+1) / N(a)), an untried action first.

    Args:
      q_values: [A].
      counts: [A] N(a).
      t: decisions so far, counted from 0.
      c: weight of the bonus, 0 or more, in units of Q.

    Returns:
      [] int32.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Sutton and Barto (2018), eq. 2.10.
    """
    q_values, log_t = _checked(q_values, counts, t, jnp.log1p)
    return _optimistic(q_values, counts, _weight(c=c) * _radius(log_t, counts))


def ucb1(
    q_values: jax.Array,
    counts: jax.Array,
    t: jax.typing.ArrayLike,
    scale: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
    """argmax_a Q(a) + scale · sqrt(2 ln t / N(a)), an untried action first.

    Its regret bound holds for rewards in an interval as long as `scale`.

    Args:
      q_values: [A].
      counts: [A] N(a).
      t: decisions so far, Σ_a N(a).
      scale: 0 or more, in units of Q; 1 for rewards in [0, 1].

    Returns:
      [] int32.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Auer, Cesa-Bianchi and Fischer (2002), figure 1.
    """
    q_values, log_t = _checked(q_values, counts, t, _log)
    radius = _weight(scale=scale) * _radius(2 * log_t, counts)
    return _optimistic(q_values, counts, radius)


def kl_ucb(
    q_values: jax.Array,
    counts: jax.Array,
    t: jax.typing.ArrayLike,
    c: jax.typing.ArrayLike = 0.0,
    *,
    noise_scale: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """argmax_a max{m : N(a) KL(Q(a), m) ≤ ln t + c ln ln t}, an untried action first.

    KL is that of two Bernoulli distributions with these means, for rewards in [0, 1].
    With `noise_scale` = σ it is that of two normal ones, (Q − m)² / 2σ². The authors
    advise c = 0 for small samples, and prove optimality with c = 3.

    Args:
      q_values: [A], in [0, 1] without noise_scale, or clipped to it.
      counts: [A] N(a).
      t: decisions so far, Σ_a N(a).
      c: 0 or more.
      noise_scale: σ ≥ 0 of normal rewards, in units of Q; None: Bernoulli.

    Returns:
      [] int32.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Garivier and Cappé (2011), arXiv:1102.2490, algorithm 1.
    """
    q_values, log_t = _checked(q_values, counts, t, _log)
    budget = log_t + _weight(c=c) * _log(log_t)
    if noise_scale is not None:
        radius = _weight(noise_scale=noise_scale) * _radius(2 * budget, counts)
        return _optimistic(q_values, counts, radius)
    per_pull = budget / _at_least_one(counts)
    upper = bernoulli_kl_upper_bound(q_values, per_pull)
    return _optimistic(upper, counts, 0.0)


@functools.partial(jax.jit, inline=True)  # a loop outside of jit compiles each time
def bernoulli_kl_upper_bound(mean: jax.Array, divergence: jax.Array) -> jax.Array:
    """max{m in [p, 1] : kl(p, m) ≤ d}, kl(p, m) = p ln(p/m) + (1−p) ln((1−p)/(1−m)).

    Newton's method finds m − p from above: kl is convex in it, so the steps decrease
    towards the root. They start at the lower of two upper bounds on m: Pinsker's,
    p + sqrt(d/2), and the one that follows from −p ln m ≥ 0,
    1 − exp(−(d − p ln p − (1−p) ln(1−p)) / (1−p)).

    Args:
      mean: p, clipped to [0, 1].
      divergence: d ≥ 0, of a shape that broadcasts with that of p.

    Returns:
      m, to some units of rounding; so is m − p, unless it is far smaller than p.
    """
    dtype = jnp.result_type(mean, divergence, 1.0)
    p = jnp.clip(jnp.asarray(mean, dtype), 0, 1)
    # Closer to 1 than this, 1 − m would be nothing but a rounding error.
    highest = 1 - jnp.finfo(dtype).eps
    most = jnp.maximum(highest - p, 0)
    entropy = _xlogx(p) + _xlogx(1 - p)

    def newton(_, gap):
        m = p + gap
        excess = bernoulli_kl(p, gap) - divergence
        slope = gap / jnp.where(gap > 0, m * (1 - m), 1)
        step = jnp.where(slope > 0, excess / jnp.where(slope > 0, slope, 1), 0)
        return jnp.clip(gap - step, 0, most)

    pinsker = jnp.sqrt(divergence / 2)
    steep = -jnp.expm1((entropy - divergence) / jnp.maximum(1 - p, 1 - highest))
    start = jnp.clip(jnp.minimum(pinsker, steep - p), 0, most)
    num_steps = 8 if jnp.finfo(dtype).bits <= 32 else 30
    gap = jax.lax.fori_loop(0, num_steps, newton, start)
    return jnp.where(p >= highest, 1, p + gap)


def _xlogx(x: jax.Array) -> jax.Array:
    """x ln x, 0 at 0. XLA's own xlogy makes a NaN there before it hides it."""
    return x * jnp.log(jnp.where(x > 0, x, 1))


def bernoulli_kl(mean: jax.Array, gap: jax.Array) -> jax.Array:
    """kl(p, p+Δ) = p ln(p/(p+Δ)) + (1−p) ln((1−p)/(1−p−Δ)), accurate for small Δ.

    It is computed as p h(Δ/p) + (1−p) h(−Δ/(1−p)) with h(x) = x − ln(1 + x), where the
    terms that are linear in Δ have been cancelled by hand.

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


def gradient_bandit_update(
    preferences: jax.Array,
    action: jax.Array,
    reward: Any,
    baseline: Any,
    step_size: Any,
    policy: jax.Array | None = None,
) -> jax.Array:
    """H(b) ← H(b) + α (r − r̄) (1[b = a] − π(b)),  π = softmax(H).

    A step of stochastic gradient ascent on the expected reward.

    Args:
      preferences: [A] H.
      action: [] integer a, drawn from π.
      reward: r.
      baseline: r̄, what r is compared with, such as the mean reward so far.
      step_size: α.
      policy: [A] π; None: softmax(H). With softmax(H/τ) the gradient has a factor 1/τ,
        which is taken as part of α.

    Returns:
      [A] the new H.

    Source: Sutton and Barto (2018), eq. 2.12; Williams (1992).
    """
    actions = jnp.arange(jnp.shape(preferences)[-1], dtype=jnp.result_type(action))
    policy = jax.nn.softmax(preferences) if policy is None else policy
    chosen = jnp.asarray(actions == action, policy.dtype)
    return preferences + step_size * (reward - baseline) * (chosen - policy)


def _checked(
    q_values: Any, counts: Any, t: Any, log: Callable[[jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Q, and the logarithm of t.

    Raises:
      TypeError, ValueError: Q and N are no numbers of one shape, or t is none of 0 or
        more.
    """
    checks.same_shape(q_values=q_values, counts=counts)
    checks.floating(counts=counts)
    return checks.rows(q_values=q_values), log(_float(checks.scalar(0, t=t)))


def _weight(**value: Any) -> Any:
    return checks.scalar(0, **value)


def _log(x: jax.Array) -> jax.Array:
    """ln x, but 0 below 1."""
    return jnp.log(jnp.maximum(x, 1))


def _float(x: Any) -> jax.Array:
    return jnp.asarray(x, jnp.result_type(float))


def _radius(log_t: jax.Array, counts: jax.Array) -> jax.Array:
    """sqrt(log_t / N), finite at N = 0."""
    return jnp.sqrt(log_t / _at_least_one(counts))


def _at_least_one(counts: jax.Array) -> jax.Array:
    return _float(jnp.where(counts > 0, counts, 1))


def _optimistic(q_values: jax.Array, counts: jax.Array, bonus: Any) -> jax.Array:
    return greedy(jnp.where(counts == 0, jnp.inf, q_values + bonus))
