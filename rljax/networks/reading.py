"""How an observation enters an agent's own network, and what stands around its layers.

Each array of an observation is read as its space says. A choice becomes a one-hot
vector, integers between finite bounds are scaled to [0, 1], and all other numbers are
read as they are. The vectors of all arrays are joined to one, in the order in which JAX
flattens the tree: by name, for a dictionary.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import spaces, struct


class Choices(NamedTuple):
    """An array of choices, each a one-hot vector, one after the other."""

    sizes: tuple[int, ...]
    """Elements of each choice."""

    @property
    def width(self) -> int:
        """The vector's length."""
        return sum(self.sizes)

    def scaled(self, x: jax.Array) -> jax.Array:
        """The choices themselves."""
        return x

    def vector(self, x: jax.Array) -> jax.Array:
        """[width] floating."""
        choices = zip(jnp.ravel(x), self.sizes, strict=True)
        hot = [jnp.arange(size, dtype=x.dtype) == choice for choice, size in choices]
        return jnp.concatenate(hot).astype(float)


class Numbers(NamedTuple):
    """An array of numbers, read as (x − low) / (high − low) if there are bounds."""

    shape: tuple[int, ...]
    """Of the array."""
    bounds: tuple[float, float] | None = None
    """(low, high)."""

    @property
    def width(self) -> int:
        """The vector's length."""
        return math.prod(self.shape)

    def scaled(self, x: jax.Array) -> jax.Array:
        """The numbers in [0, 1] if there are bounds, else as they are."""
        if self.bounds is None:
            return x
        low, high = self.bounds
        return (x.astype(float) - low) / (high - low)

    def vector(self, x: jax.Array) -> jax.Array:
        """[width] floating."""
        return jnp.ravel(self.scaled(x)).astype(float)


class Reading(NamedTuple):
    """How the arrays of an observation are read: structure, the same for all seeds."""

    tree: Any
    """The structure of the observation."""
    parts: tuple[Choices | Numbers | None, ...]
    """How each of its arrays is read; None for those of a space of the user's."""

    @property
    def width(self) -> int:
        """How many numbers a network gets."""
        return sum(part.width for part in self._known)

    @property
    def is_trivial(self) -> bool:
        """Whether layers, or an encoder, can have the observation as it is."""
        if not jax.tree_util.treedef_is_leaf(self.tree):
            return False
        (part,) = self.parts
        if isinstance(part, Choices):
            return len(part.sizes) == 1
        # An integer scalar would be taken for an index: see `mlp_apply`.
        return part is None or (part.bounds is None and part.shape != ())

    @property
    def _known(self) -> list[Choices | Numbers]:
        return [part for part in self.parts if part is not None]

    def vector(self, obs: Any) -> jax.Array:
        """The whole observation as one vector, [width] floating."""
        arrays = self.tree.flatten_up_to(obs)
        vectors = [part.vector(x) for part, x in zip(self._known, arrays, strict=True)]
        return vectors[0] if len(vectors) == 1 else jnp.concatenate(vectors)

    def scaled(self, obs: Any) -> Any:
        """The observation, all arrays as they are but integers between bounds."""
        arrays = zip(self.parts, self.tree.flatten_up_to(obs), strict=True)
        return self.tree.unflatten(
            x if part is None else part.scaled(x) for part, x in arrays
        )


def reading_of(space: Any) -> Reading:
    """How observations of a space, or of a tree of spaces, are read.

    Of the bounds of an integer Box, the least and the greatest count: 0 and 255 for
    images. If one of them is infinite, nothing is scaled.

    Raises:
      TypeError: there is no space, or the bounds of an integer Box are traced.
    """
    tree = spaces.structure(space)
    return Reading(tree, tuple(map(_part, tree.flatten_up_to(space))))


def _part(space: spaces.Space) -> Choices | Numbers | None:
    if isinstance(space, spaces.Discrete):
        return Choices((space.n,))
    if isinstance(space, spaces.MultiDiscrete):
        return Choices(space.sizes)
    if not isinstance(space, spaces.Box):
        return None
    if not jnp.issubdtype(jnp.dtype(space.dtype), jnp.integer):
        return Numbers(space.shape)
    if any(isinstance(bound, Tracer) for bound in (space.low, space.high)):
        raise TypeError(
            "the bounds of an integer Box must be known when a network is made for it, "
            f"as they scale its input, but are traced in {space}. Make them of numbers "
            "or NumPy arrays that are no leaves, or pass a network of your own."
        )
    low, high = float(np.min(space.low)), float(np.max(space.high))
    finite = np.isfinite(low) and np.isfinite(high) and low < high
    return Numbers(space.shape, (low, high) if finite else None)


class Encoded(NamedTuple):
    """Parameters of a network, and those of the encoders of what it reads."""

    encoders: tuple[Any, ...]
    """One, or one for an actor and one for its critic."""
    params: Any
    """Those of the network itself."""


@struct.dataclass
class Reader:
    """Parameters of a network, and how it reads an observation.

    The latter is structure and no leaf: no optimiser moves it.
    """

    params: Any
    """Those of the network itself."""
    reading: Reading = struct.static()
    """How each array of an observation is read."""

    def read(self, obs: Any) -> Any:
        """What the network gets: one vector, or what an encoder turns into one."""
        if isinstance(self.params, Encoded):
            return self.reading.scaled(obs)
        return self.reading.vector(obs)


class LogScaled(NamedTuple):
    """Parameters of a network of means, and log σ, which no observation changes."""

    params: Any
    """Those of the network itself."""
    log_scale: jax.Array
    """Of an action's shape."""


def opened(params: Any, obs: Any) -> tuple[Any, Any, jax.Array | None]:
    """The network's own parameters, what it reads of an observation, and log σ."""
    log_scale = None
    if isinstance(params, LogScaled):
        params, log_scale = params
    if isinstance(params, Reader):
        params, obs = params.params, params.read(obs)
    return params, obs, log_scale


def with_log_scale(outputs: jax.Array, log_scale: jax.Array | None) -> Any:
    """What a distribution takes: outputs [A], or (mean, log σ) of an action's shape."""
    if log_scale is None:
        return outputs
    return outputs.reshape(log_scale.shape), log_scale
