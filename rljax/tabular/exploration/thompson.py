"""Thompson sampling: draw each mean from its posterior and take the best draw."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from rljax import checks, random, struct
from rljax.distributions import greedy
from rljax.tabular.exploration.rules import KLUCB, decide


@struct.dataclass
class ThompsonGaussian:
    """`thompson_gaussian` as a rule."""

    prior_mean: float = 0.0
    """m_0, mean of the prior, in units of reward."""
    prior_scale: float = 1.0
    """s_0 > 0, standard deviation of the prior."""
    noise_scale: float = 1.0
    """σ > 0, standard deviation of a reward."""

    uses_counts: ClassVar[bool] = True

    def __post_init__(self):
        checks.reals(self, "prior_mean")
        checks.reals(self, "prior_scale", "noise_scale", minimum=0.0, open_minimum=True)

    def draw(
        self, num_actions: int, shape: tuple[int, ...], key: jax.Array
    ) -> jax.Array:
        """A standard normal number for each action."""
        return random.normal(key, (*shape, num_actions))

    def _posterior(self, q_values: jax.Array, counts: Any) -> Any:
        counts = jnp.asarray(counts, jnp.result_type(q_values, 1.0))
        prior, likelihood = self.prior_scale**-2, counts * self.noise_scale**-2
        precision = prior + likelihood
        mean = (prior * self.prior_mean + likelihood * q_values) / precision
        return mean, jax.lax.rsqrt(precision)

    def select(
        self, q_values: jax.Array, counts: Any, step: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """argmax_a m_a + s_a z_a, with the normal numbers z."""
        del step
        mean, scale = self._posterior(q_values, counts)
        return greedy(mean + scale * noise)

    def probabilities(
        self, q_values: jax.Array, counts: Any, step: jax.Array
    ) -> jax.Array:
        """∫ Π_{b≠a} F_b dF_a to 1e-4, where F_a is the posterior distribution function.

        It is a sum over the cells between 512 quantiles of each arm.
        """
        del step
        mean, scale = self._posterior(q_values, counts)
        edges = _quantiles(mean, scale, 512)
        return _chances(
            jax.scipy.special.ndtr((edges[None] - mean[:, None]) / scale[:, None])
        )


@struct.dataclass
class ThompsonBernoulli:
    """`thompson_bernoulli` as a rule, see `assumes_unit_means`."""

    prior_wins: float = 1.0
    """α > 0."""
    prior_losses: float = 1.0
    """β > 0."""

    uses_counts: ClassVar[bool] = True

    def __post_init__(self):
        checks.reals(self, "prior_wins", "prior_losses", minimum=0.0, open_minimum=True)

    def draw(
        self, num_actions: int, shape: tuple[int, ...], key: jax.Array
    ) -> jax.Array:
        """A key for each decision: beta variates need unknown amounts of randomness."""
        del num_actions
        return random.keys(key, shape)

    def _posterior(self, q_values: jax.Array, counts: Any) -> Any:
        counts = jnp.asarray(counts, jnp.result_type(q_values, 1.0))
        wins = counts * jnp.clip(q_values, 0, 1)
        return self.prior_wins + wins, self.prior_losses + (counts - wins)

    def select(
        self, q_values: jax.Array, counts: Any, step: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """argmax_a of one draw from each posterior."""
        del step
        wins, losses = self._posterior(q_values, counts)
        return greedy(jax.random.beta(random.unrolled(noise), wins, losses))

    def probabilities(
        self, q_values: jax.Array, counts: Any, step: jax.Array
    ) -> jax.Array:
        """∫ Π_{b≠a} F_b dF_a, where F_a is the posterior distribution function.

        It is a sum over 2048 equal cells of [0, 1], which 128 quantiles of each arm
        divide further where a posterior is much narrower than a cell. The quantiles are
        those of the normal distribution with the posterior's mean and variance. In
        float32 this serves up to some 10⁵ pulls of an arm; beyond, F itself is inexact.
        """
        del step
        wins, losses = self._posterior(q_values, counts)
        total = wins + losses
        mean = wins / total
        scale = jnp.sqrt(mean * (losses / total) / (total + 1))
        even = jnp.linspace(0, 1, 2049, dtype=wins.dtype)
        edges = jnp.concatenate([even, _quantiles(mean, scale, 128)])
        edges = jnp.sort(jnp.clip(edges, 0, 1))
        return _chances(
            jax.scipy.special.betainc(wins[:, None], losses[:, None], edges[None])
        )


def assumes_unit_means(rule: Any) -> bool:
    """Whether a rule is for rewards in [0, 1] alone: ThompsonBernoulli, plain KLUCB.

    With others it would pull one arm for ever. Bandits whose rewards are known to be
    others refuse these rules; else, from the first Q(s,a) on that is not in [0, 1],
    tabular agents learn NaN.
    """
    is_plain = isinstance(rule, KLUCB) and rule.noise_scale is None
    return is_plain or isinstance(rule, ThompsonBernoulli)


def are_unit_means(q_values: Any, counts: Any) -> Any:
    """Whether Q(a) is in [0, 1], up to rounding, for all a with N(a) > 0, [] bool."""
    return ((counts == 0) | ((q_values > -1e-3) & (q_values < 1 + 1e-3))).all()


def _quantiles(mean: jax.Array, scale: jax.Array, number: int) -> jax.Array:
    """`number` quantiles of each of A normal distributions, sorted, [A · number]."""
    u = (jnp.arange(number, dtype=mean.dtype) + 0.5) / number
    normal = jax.scipy.special.ndtri(u)[None]
    return jnp.sort((mean[:, None] + scale[:, None] * normal).ravel())


def _chances(cdf: jax.Array) -> jax.Array:
    """P(arm a has the largest draw), [A], from distribution functions at edges, [A, E].

    Within a cell, the distribution function of each other arm is taken as the mean of
    its values at the two edges.
    """
    cdf = jnp.pad(cdf, ((0, 0), (1, 0)))
    cdf = jnp.pad(cdf, ((0, 0), (0, 1)), constant_values=1.0)
    middle = (cdf[:, 1:] + cdf[:, :-1]) / 2
    # Products over all arms but one: the arms before it times the arms after it.
    one = jnp.ones_like(middle[:1])
    before = jnp.cumprod(jnp.concatenate([one, middle[:-1]]), axis=0)
    after = jnp.cumprod(jnp.concatenate([one, middle[:0:-1]]), axis=0)[::-1]
    chances = jnp.sum(jnp.diff(cdf, axis=-1) * before * after, axis=-1)
    return chances / jnp.sum(chances)


def thompson_gaussian(
    q_values: jax.Array,
    counts: jax.Array,
    key: jax.Array,
    *,
    prior_mean: Any = 0.0,
    prior_scale: Any = 1.0,
    noise_scale: Any = 1.0,
) -> jax.Array:
    """argmax_a μ_a with each mean drawn from its posterior, for normal rewards.

        μ_a ~ N(m_a, s_a²)
        1/s_a² = 1/s_0² + N(a)/σ²,   m_a = s_a² (m_0/s_0² + N(a) Q(a)/σ²)

    Args:
      q_values: [A] sample means.
      counts: [A] N(a).
      key: random key.
      prior_mean: m_0, in units of reward.
      prior_scale: s_0 > 0, standard deviation of the prior.
      noise_scale: σ > 0, standard deviation of a reward.

    Returns:
      [] int32.

    Source: Thompson (1933); Russo et al. (2018), arXiv:1707.02038, §4.
    """
    rule = ThompsonGaussian(prior_mean, prior_scale, noise_scale)
    return decide(rule, q_values, counts, key)


def thompson_bernoulli(
    q_values: jax.Array,
    counts: jax.Array,
    key: jax.Array,
    *,
    prior_wins: Any = 1.0,
    prior_losses: Any = 1.0,
) -> jax.Array:
    """argmax_a μ_a with each mean drawn from its posterior, for rewards 0 and 1.

        μ_a ~ Beta(α + N(a) Q(a), β + N(a) (1 − Q(a)))

    Args:
      q_values: [A] sample means in [0, 1], or clipped to it.
      counts: [A] N(a).
      key: random key.
      prior_wins: α > 0.
      prior_losses: β > 0; 1 and 1 are the uniform prior.

    Returns:
      [] int32.

    Source: Thompson (1933); Russo et al. (2018), arXiv:1707.02038, §3.
    """
    rule = ThompsonBernoulli(prior_wins, prior_losses)
    return decide(rule, q_values, counts, key)
