"""Tile coding: which cells of several overlapping grids an observation lies in."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, struct


@runtime_checkable
class BinaryFeatures(Protocol):
    """A pytree that says which features of an observation are 1; all others are 0."""

    @property
    def num_features(self) -> int:
        """F, how many features there are."""
        ...

    def __call__(self, obs: Any) -> jax.Array:
        """The active features of one observation, [K] int32, distinct, in [0, F)."""
        ...


@struct.dataclass
class TileCoding:
    """n grids over a box, each moved by another part of a tile.

        feature_i = i (m+1)^D + Σ_d (m+1)^(D−1−d) ⌊ξ_d + ((2d+1) i mod n) / n⌋
        ξ_d = m (obs_d − low_d) / (high_d − low_d)

    for the tilings i = 0, …, n−1, of m tiles to the box in each of the dimensions
    d = 0, …, D−1. An observation has one tile in each tiling, and what is learned of it
    reaches as far as a tile does, while all tilings together tell positions apart that
    are 1/n of a tile from each other. Displacements by the odd numbers 1, 3, 5, … make
    that reach about the same in all directions; the book advises a power of two, at
    least 4D, for n. A displaced grid needs one tile more in each dimension to cover the
    box, so that there are n (m+1)^D tiles, m^D of a single grid. Nothing is hashed.

    Observations beyond the box count as on its edge. One that holds a NaN has no tiles,
    and none has where a traced bound is infinite: its features are then `num_features`,
    one too many.

    Source: Albus (1975); Sutton and Barto (2018), §9.5.4.
    """

    low: Any
    """[D], kept as a tuple of numbers: such as `env.observation_space.low`."""
    high: Any
    """[D], above `low`."""
    num_tilings: int = struct.static(default=8)
    """n, the number of active features."""
    num_tiles: int = struct.static(default=8)
    """m, tiles to the box in each dimension."""

    def __post_init__(self):
        checks.ints(self, "num_tilings", "num_tiles", minimum=1)
        for name in ("low", "high"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if len(self.low) != len(self.high):
            raise ValueError(
                "TileCoding.low and .high must have a number for each dimension, got "
                f"{self.low!r} and {self.high!r}."
            )
        for pair in zip(self.low, self.high, strict=True):
            if not any(isinstance(x, Tracer) for x in pair) and not pair[0] < pair[1]:
                raise ValueError(
                    f"TileCoding.low must be below .high, got {self.low!r} and "
                    f"{self.high!r}."
                )
        if self.num_features > checks.LARGEST_INT:
            raise ValueError(
                f"TileCoding would have {self.num_features} tiles, too many to number "
                "in int32. Lower num_tiles, or leave out dimensions."
            )

    @property
    def num_features(self) -> int:
        """n (m+1)^D, or m^D of a single tiling."""
        return self.num_tilings * self._num_cells ** len(self.low)

    @property
    def _num_cells(self) -> int:
        return self.num_tiles + (self.num_tilings > 1)

    def __call__(self, obs: jax.Array) -> jax.Array:
        """The tiles of an observation [D], one of each tiling: [num_tilings] int32.

        Raises:
          ValueError: the observation has another shape.
        """
        obs, num = checks.as_array("obs", obs), self.num_tilings
        if obs.shape != (len(self.low),):
            raise ValueError(
                f"obs must have shape {(len(self.low),)} to be tiled, got {obs.shape}. "
                "vmap over several."
            )
        (obs,) = checks.floating(obs=obs)
        index, unknown = np.arange(num, dtype=np.int32), False
        for d, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            # Whole n-ths of a tile, so that all tilings agree to the last bit.
            parts = jnp.floor((obs[d] - low) / (high - low) * (self.num_tiles * num))
            unknown |= jnp.isnan(parts)
            parts = jnp.clip(parts, 0, self.num_tiles * num - 1).astype(jnp.int32)
            moved = parts + np.arange(num, dtype=np.int32) * (2 * d + 1) % num
            index = index * self._num_cells + jax.lax.div(moved, jnp.int32(num))
        return jnp.where(unknown, jnp.int32(self.num_features), index)


def _numbers(name: str, value: Any) -> tuple[Any, ...]:
    """A tuple of numbers, each a float or traced.

    Raises:
      TypeError: they are none, or not in a row.
      ValueError: one is not finite.
    """
    label = f"TileCoding.{name}"
    if np.ndim(value) != 1 or not len(value):
        raise TypeError(
            f"{label} must be a number for each dimension, such as (-1.2, -0.07), got "
            f"{value!r}."
        )
    numbers = tuple(value)
    if any(isinstance(number, Tracer) for number in numbers):
        return numbers
    array = checks.as_floats(label, numbers)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{label} must be finite, got {value!r}. Give bounds that observations "
            "seldom leave: beyond them they count as on the edge."
        )
    return tuple(map(float, array))
