"""Normal distributions of real actions: as they are, clipped or squashed to a box.

The numbers of an action are independent. Parameters of half precision are computed with
in float32.

Source of the formulas: Cover and Thomas (2006), chapter 8; Haarnoja et al. (2018),
arXiv:1801.01290, appendix C, for the squashed one.
"""

import dataclasses
import math
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, struct
from rljax.distributions.base import Distribution

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_MOST_LOG_SCALE = 20.0
_NUM_NODES = 32


@struct.dataclass
class Normal(Distribution):
    """Independent numbers N(μ, σ²), with σ = exp(log_scale).

        log π(a) = −Σ_i [½ ((a_i − μ_i)/σ_i)² + log σ_i + ½ log 2π]
        H(π) = Σ_i [log σ_i + ½ log 2πe]

    The action is the draw clipped to [low, high]; log π is that of the draw. log σ is
    taken within ±20, so that no number overflows in float32.
    """

    transforms: ClassVar[bool] = True

    mean: Any = None
    """μ, [..., *shape] floating."""
    log_scale: Any = None
    """log σ, of the mean's shape."""
    low: Any = -math.inf
    """Bounds, which broadcast to the shape."""
    high: Any = math.inf
    shape: tuple[int, ...] = struct.static(default=())
    """Of one action."""

    @property
    def outputs(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(mean, log σ)."""
        return self.shape, self.shape

    @property
    def num_outputs(self) -> int:
        """The numbers of an action."""
        return math.prod(self.shape)

    def given(self, outputs: Any) -> Self:
        """With (mean, log σ), both [..., *shape]."""
        mean, log_scale = outputs
        return dataclasses.replace(self, mean=mean, log_scale=log_scale)

    def draw(self, key: jax.Array) -> jax.Array:
        """μ + σ ε with ε ~ N(0, 1): differentiable in μ and σ."""
        mean, log_scale = self._parameters()
        noise = random.normal(key, mean.shape).astype(mean.dtype)
        return mean + jnp.exp(log_scale) * noise

    def to_action(self, draw: jax.Array) -> jax.Array:
        """The draw, clipped to the bounds."""
        low, high = (jnp.broadcast_to(x, draw.shape) for x in (self.low, self.high))
        return jnp.clip(draw, low.astype(draw.dtype), high.astype(draw.dtype))

    def draw_log_prob(self, draw: Any) -> jax.Array:
        """log π of a draw, [...].

        Raises:
          ValueError: the draw's shape is not that of the mean.
        """
        mean, log_scale = self._parameters()
        checks.same_shape(mean=mean, draw=draw)
        z = (jnp.asarray(draw, mean.dtype) - mean) * jnp.exp(-log_scale)
        return -self._sum(0.5 * jnp.square(z) + log_scale + _HALF_LOG_2PI)

    def entropy(self) -> jax.Array:
        """H(π), of the draw, [...]."""
        _, log_scale = self._parameters()
        return self._sum(log_scale + (0.5 + _HALF_LOG_2PI))

    def mode(self) -> jax.Array:
        """The action of μ; of numbers that are squashed, the median."""
        return self.to_action(self._parameters()[0])

    def kl(self, other: Any) -> jax.Array:
        """Σ_i [log σ'_i/σ_i + (σ_i² + (μ_i − μ'_i)²) / 2σ'_i² − ½], [...]."""
        mean, log_scale = self._parameters()
        other_mean, other_log_scale = other._parameters()
        checks.same_shape(mean=mean, other_mean=other_mean)
        log_ratio = log_scale - other_log_scale
        z = (mean - other_mean) * jnp.exp(-other_log_scale)
        # Of nearly equal scales, (r² − 1)/2 − log r keeps its digits in this form.
        spread = 0.5 * jnp.expm1(2 * log_ratio) - log_ratio
        return self._sum(spread + 0.5 * jnp.square(z))

    def _parameters(self) -> tuple[jax.Array, jax.Array]:
        """μ and log σ in float32 or float64, the latter within its limits."""
        mean, log_scale = checks.alike(mean=self.mean, log_scale=self.log_scale)
        log_scale = jnp.clip(log_scale, -_MOST_LOG_SCALE, _MOST_LOG_SCALE)
        return jnp.asarray(mean), log_scale

    def _sum(self, x: jax.Array) -> jax.Array:
        return jnp.sum(x, axis=tuple(range(-len(self.shape), 0)))


@struct.dataclass
class SquashedNormal(Normal):
    """u ~ N(μ, σ²), and the action a = low + (high − low) · (tanh u + 1)/2.

        log π(a) = log N(u; μ, σ²) − Σ_i log(da_i/du_i)
        log(da/du) = log((high − low)/2) + 2 (log 2 − |u| − log(1 + e^(−2|u|)))

    No action lies beyond the bounds, at the price of a density that is pressed together
    at the ends. A number with an infinite bound is clipped instead, as `Normal` does.
    The divergence of two of them is that of the two normal ones, as a → u is
    one-to-one.
    """

    def to_action(self, draw: jax.Array) -> jax.Array:
        """The action of u."""
        low, width, is_bounded = self._box()
        squashed = low + width * (0.5 * (jnp.tanh(draw) + 1))
        return super().to_action(jnp.where(is_bounded, squashed, draw))

    def to_draw(self, action: Any) -> jax.Array:
        """u of an action; of one at a bound, where u is infinite, a large one."""
        low, width, is_bounded = self._box()
        action = jnp.asarray(action, low.dtype)
        largest = 1 - jnp.finfo(low.dtype).epsneg
        place = jnp.clip(2 * ((action - low) / width) - 1, -largest, largest)
        return jnp.where(is_bounded, jnp.arctanh(place), action)

    def draw_log_prob(self, draw: Any) -> jax.Array:
        """log π of the action of u, [...]; exact where tanh u is rounded to 1."""
        size = jnp.abs(jnp.asarray(draw, self._parameters()[0].dtype))
        slope = self._log_slope(size + jnp.log1p(jnp.exp(-2 * size)))
        return super().draw_log_prob(draw) - self._sum(slope)

    def entropy(self) -> jax.Array:
        """H(π) = H(N(μ, σ²)) + Σ_i E[log(da_i/du_i)], [...].

        E|u| has a closed form; E[log(1 + e^(−2|u|))] is a sum over 32 nodes, which is
        right to 1e-11.
        """
        mean, log_scale = self._parameters()
        z = mean * jnp.exp(-log_scale)
        size = jnp.exp(log_scale - 0.5 * jnp.square(z)) * math.sqrt(2 / math.pi)
        size += mean * jax.lax.erf(z * math.sqrt(0.5))  # E|u|
        slope = self._log_slope(size + _expected_bend(mean, log_scale))
        return super().entropy() + self._sum(slope)

    def _log_slope(self, bent: jax.Array) -> jax.Array:
        """log(da/du) given |u| + log(1 + e^(−2|u|)), or its mean given theirs."""
        _, width, is_bounded = self._box()
        slope = jnp.log(width / 2) + 2 * (math.log(2) - bent)
        return jnp.where(is_bounded, slope, 0)

    def _box(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """low, high − low and whether they are finite; else 0 and 1 in their place."""
        mean, _ = self._parameters()
        low, high = (
            jnp.broadcast_to(jnp.asarray(bound, mean.dtype), mean.shape)
            for bound in (self.low, self.high)
        )
        is_bounded = jnp.isfinite(low) & jnp.isfinite(high)
        low, high = jnp.where(is_bounded, low, 0), jnp.where(is_bounded, high, 1)
        return low, high - low, is_bounded


def _expected_bend(mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """E[log(1 + e^(−2|u|))] of u ~ N(μ, σ²), of the parameters' shape.

    By Gauss and Legendre's rule over all |u| within 8σ of |μ|, up to 12, where the
    function is 4e-11. Its derivative is that of the function alone, E[f′(u) du/dμ]: as
    a derivative of the density it would lose its digits where σ is small.
    """
    rule = np.polynomial.legendre.leggauss(_NUM_NODES)
    shape = (1,) * mean.ndim + (_NUM_NODES,)
    nodes, weights = (jnp.asarray(x.reshape(shape), mean.dtype) for x in rule)
    centre, scale = jnp.abs(mean)[..., None], jnp.exp(log_scale)[..., None]
    middle, width = jax.lax.stop_gradient((centre, scale))
    # Nodes as distances from |μ|: as sizes they would be rounded to less than σ.
    start = jnp.maximum(-8 * width, -middle)
    half = 0.5 * jnp.maximum(jnp.minimum(8 * width, 12 - middle) - start, 0)
    distance = start + half * (nodes + 1)
    total = jnp.zeros_like(mean)
    for sign, away in ((1, distance), (-1, distance + 2 * middle)):  # u > 0, and u < 0
        z = away / width
        size = middle + distance + sign * (centre - middle) + (scale - width) * z
        terms = jnp.exp(-0.5 * jnp.square(z)) * jnp.log1p(jnp.exp(-2 * size))
        total += jnp.sum(weights * (half / width) * terms, axis=-1)
    return total * (1 / math.sqrt(2 * math.pi))
