"""What an action or an observation may be."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, struct


class Space(abc.ABC):
    """A set of arrays of one shape and dtype, registered as a pytree."""

    shape: Any
    dtype: Any

    @abc.abstractmethod
    def sample(self, key: jax.Array) -> Any:
        """A draw from the whole space."""

    @abc.abstractmethod
    def contains(self, value: Any) -> Any:
        """Whether `value` lies in the space, [] bool."""


@struct.dataclass
class Discrete(Space):
    """The integers 0, 1, …, n−1, as int32 scalars."""

    n: int = struct.static()
    """Number of elements."""

    def __post_init__(self):
        checks.ints(self, "n", minimum=1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Scalars."""
        return ()

    @property
    def dtype(self) -> Any:
        """int32."""
        return jnp.int32

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform draw, [] int32."""
        return jax.random.randint(key, (), 0, self.n, jnp.int32)

    def contains(self, value: Any) -> Any:
        """Whether `value` lies in the space, [] bool."""
        return (value >= 0) & (value < self.n)


@struct.dataclass
class MultiDiscrete(Space):
    """Several choices at once: element i is one of 0, 1, …, sizes[i]−1; [D] int32."""

    sizes: tuple[int, ...] = struct.static()
    """Number of elements of each choice, D of them."""

    def __post_init__(self):
        checks.sizes(self, "sizes")
        if not self.sizes:
            raise ValueError("MultiDiscrete.sizes must have a choice at least, got ().")

    @property
    def shape(self) -> tuple[int, ...]:
        """(D,)."""
        return (len(self.sizes),)

    @property
    def dtype(self) -> Any:
        """int32."""
        return jnp.int32

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform draw, [D] int32."""
        return jax.random.randint(key, self.shape, 0, np.array(self.sizes), jnp.int32)

    def contains(self, value: Any) -> Any:
        """Whether `value` lies in the space, [] bool."""
        return ((value >= 0) & (value < np.array(self.sizes))).all()


@struct.dataclass
class Box(Space):
    """Real arrays of one shape between `low` and `high`, bounds included.

    `low` and `high` are leaves that broadcast to `shape`, infinities allowed, so a
    space may depend on traced physics.
    """

    low: Any
    high: Any
    shape: tuple[int, ...] = struct.static()
    dtype: Any = struct.static(default=float)
    """Floating or integer; `float` is JAX's default, float64 in x64 mode."""

    def __post_init__(self):
        if not isinstance(self.shape, tuple):
            raise TypeError(
                f"Box.shape must be a tuple such as (4,), got {self.shape!r}."
            )
        for i, size in enumerate(self.shape):
            checks.integer(f"Box.shape[{i}]", size, minimum=1)
        bounds = (self.low, self.high)
        if any(isinstance(bound, Tracer) for bound in bounds):
            return
        low, high = (
            checks.as_floats(f"Box.{name}", bound)
            for name, bound in zip(("low", "high"), bounds, strict=True)
        )
        if not (low <= high).all():
            raise ValueError(
                f"Box.low must be at most Box.high, got {self.low!r} and {self.high!r}."
            )

    def sample(self, key: jax.Array) -> jax.Array:
        """A draw: uniform where both bounds are finite, else as Gymnasium does.

        That is normal where neither bound is finite and, with one finite bound,
        exponential away from it. Integers are uniform, both bounds included.

        Raises:
          ValueError: a bound of integers is infinite.
        """
        dtype = jnp.result_type(self.dtype)
        if jnp.issubdtype(dtype, jnp.integer):
            return self._sample_integers(key, dtype)
        low, high = (
            jnp.broadcast_to(jnp.asarray(bound, dtype), self.shape)
            for bound in (self.low, self.high)
        )
        below, above = jnp.isfinite(low), jnp.isfinite(high)
        floor, ceiling = jnp.where(below, low, 0), jnp.where(above, high, 0)
        key_uniform, key_normal, key_exponential = jax.random.split(key, 3)
        uniform = jax.random.uniform(key_uniform, self.shape, dtype)
        normal = jax.random.normal(key_normal, self.shape, dtype)
        exponential = jax.random.exponential(key_exponential, self.shape, dtype)
        return jnp.select(
            [below & above, below, above],
            [
                floor + uniform * (ceiling - floor),
                floor + exponential,
                ceiling - exponential,
            ],
            normal,
        )

    def _sample_integers(self, key: jax.Array, dtype: Any) -> jax.Array:
        for name, bound in (("low", self.low), ("high", self.high)):
            if not isinstance(bound, Tracer) and not np.isfinite(bound).all():
                raise ValueError(
                    f"Box.{name} must be finite to draw integers, got {bound!r}. Use "
                    f"the least and the largest number of {dtype.name}."
                )
        # What lies between two of them may be more than a signed integer holds.
        unsigned = jnp.dtype("uint64" if dtype.itemsize == 8 else "uint32")
        low, high = (
            jnp.broadcast_to(jnp.asarray(bound).astype(dtype), self.shape)
            for bound in (self.low, self.high)
        )
        number = high.astype(unsigned) - low.astype(unsigned) + 1
        key_below, key_every = jax.random.split(key)
        below = jax.random.randint(key_below, self.shape, 0, number, unsigned)
        # Of all integers there are 2³² or 2⁶⁴, which wraps around to 0.
        every = jax.random.bits(key_every, self.shape, unsigned)
        above_low = jnp.where(number == 0, every, below)
        return (low.astype(unsigned) + above_low).astype(dtype)

    def contains(self, value: Any) -> Any:
        """Whether `value` lies in the space, [] bool."""
        low, high = self._to_shape(self.low), self._to_shape(self.high)
        return ((value >= low) & (value <= high)).all()

    def _to_shape(self, bound: Any) -> Any:
        """A bound of fewer axes with those of the space; a number stays one."""
        if np.ndim(bound) == 0:
            return bound
        return numpy_for(bound).broadcast_to(bound, self.shape)


def numpy_for(*values: Any) -> Any:
    """NumPy, or jax.numpy if a value is traced.

    Under jit, JAX would trace an operation on a constant as well; and with
    jax_debug_infs it refuses arrays with infinities.
    """
    return jnp if any(isinstance(value, Tracer) for value in values) else np


def stacked(*bounds: Any) -> Any:
    """The bounds of a vector from those of its numbers: [..., D] floating.

    Each is a number or an array [...] of settings; see `numpy_for` for the library.
    """
    library = numpy_for(*bounds)
    array = library.stack(library.broadcast_arrays(*bounds), axis=-1)
    return array.astype(jnp.result_type(float))


def structure(space: Any) -> Any:
    """The structure of a space, or of a dictionary or tuple … of spaces, its leaves.

    Raises:
      TypeError: it is neither.
    """
    leaves, tree = jax.tree.flatten(space, is_leaf=lambda x: isinstance(x, Space))
    if not leaves or not all(isinstance(leaf, Space) for leaf in leaves):
        raise TypeError(f"must be a space or a tree of spaces, got {space!r}.")
    return tree


def check_element(space: Space, value: Any, label: str) -> jax.Array:
    """Returns `value` as an array of the space's dtype.

    Raises:
      TypeError: `value` is of another kind of dtype than the space's.
      ValueError: `value` has another shape, or is concrete and out of bounds.
    """
    array = jnp.asarray(value)
    integers = jnp.issubdtype(space.dtype, jnp.integer)
    kind = np.integer if integers else np.floating
    if not jnp.issubdtype(array.dtype, kind):
        raise TypeError(
            f"{label} must have a dtype of kind {kind.__name__} for {space}, got "
            f"{array.dtype}. Cast it, or use an agent made for this space."
        )
    if array.shape != space.shape:
        raise ValueError(
            f"{label} must have shape {space.shape} for {space}, got {array.shape}. "
            "step takes one environment's action: vmap it over a batch."
        )
    if not isinstance(value, Tracer):
        # In NumPy: under jit, a JAX operation on a constant would be traced as well.
        inside = space.contains(np.asarray(value))
        if not isinstance(inside, Tracer) and not inside:
            raise ValueError(f"{label} must lie in {space}, got {value!r}.")
    return array.astype(space.dtype)


def num_actions(space: Space, who: str) -> int:
    """The number of actions of a discrete action space.

    Raises:
      TypeError: the space is not discrete; `who` names the agent that needs it so.
    """
    if not isinstance(space, Discrete):
        raise TypeError(
            f"{who} chooses among finitely many actions, but env.action_space is "
            f"{space}. Use an environment with a Discrete action space, or discretise "
            "this one in a wrapper."
        )
    return space.n
