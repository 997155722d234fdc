"""Slopes of a function along lines, from differences at several step sizes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Steps h of the differences, relative to the size of what is varied. Rounding causes an
# error of about 1e-16/h, the third derivative one of h²: the best step depends on fn.
STEPS = np.array([1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9])
KINK_STEP = 3  # index of 1e-6: a kink as near as that counts as one at the point


class Kink(NamedTuple):
    """A point where the slopes to both sides differ, as a ReLU's do at 0."""

    where: str
    """The coordinate or direction along which they differ."""
    left: float
    """Slope just below the point."""
    right: float
    """Slope just above it."""
    gradient: float
    """What jax.grad says."""


class Slopes:
    """One-sided and central slopes at each of `STEPS`, and the best central one.

    `values` [K, …] come from `values_along`; its steps are relative to `lengths` [K].
    """

    def __init__(self, values: np.ndarray, lengths: np.ndarray):
        here = values[:, :1]
        above, below = np.split(values[:, 1:], 2, axis=1)
        steps = STEPS * lengths[:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            self.left, self.right = (here - below) / steps, (above - here) / steps
            central = (above - below) / (2 * steps)
            # Rounding errors: those of fn's values, and those of the points, which
            # change fn's values by the slope times the error.
            size = np.maximum(np.maximum(np.abs(above), np.abs(below)), np.abs(here))
            slope = np.maximum(np.abs(self.left), np.abs(self.right))
            self.noise = 8 * np.finfo(np.float64).eps * (size / steps + slope / STEPS)
            self.jump = np.abs(self.right - self.left)
            # For a smooth function the jump shrinks in proportion to the step, to a
            # tenth. If more than half of it is left, it stays: there is a kink.
            floor = np.maximum(0.5 * self.jump[:, :-1], 4 * self.noise[:, 1:])
            self.stays = self.jump[:, 1:] > floor
            change = np.abs(np.diff(central))
            doubt = change + self.noise[:, 1:]
            doubt = doubt + np.where(self.stays, self.jump[:, 1:], 0)
        self.change = np.pad(change, ((0, 0), (1, 0)), constant_values=np.inf)
        self.chosen = np.argmin(np.where(np.isfinite(doubt), doubt, np.inf), 1) + 1
        self.best = self.at_chosen(central)

    def at_chosen(self, table: np.ndarray) -> np.ndarray:
        """table[k, chosen[k]]."""
        return np.take_along_axis(table, self.chosen[:, None], 1)[:, 0]


def values_along(
    fn: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    sizes: np.ndarray,
    coordinates: np.ndarray,
    directions: np.ndarray,
) -> np.ndarray:
    """Values of fn at `start`, and at ± each step along K coordinates and directions.

    Args:
      fn: function of a vector [D] to a scalar.
      start: [D] the point.
      sizes: [D] the length of one step along each coordinate.
      coordinates: [K1] integers, the coordinates to go along one by one.
      directions: [K2, D] other directions to go along.

    Returns:
      [K1 + K2, 1 + 2 × steps]: at the point, above it, below it.

    Raises:
      ValueError: there are neither coordinates nor directions.
    """
    offsets = np.concatenate([[0.0], STEPS, -STEPS])
    count, lengths = len(coordinates), jnp.asarray(sizes)
    places, mixed = jnp.asarray(coordinates), jnp.asarray(directions)

    def along(k):
        here = places[k] if count else 0
        one = jnp.zeros(len(sizes)).at[here].set(lengths[here])
        some = mixed[k - count] if len(directions) else 0.0
        v = jnp.where(k < count, one, some)
        return jax.lax.map(lambda h: fn(start + h * v), offsets)

    total = count + len(directions)
    if not total:
        raise ValueError("max_coordinates and num_directions must not both be 0.")
    return np.asarray(jax.jit(lambda: jax.lax.map(along, jnp.arange(total)))())


def find_kinks(
    labels: list[str], along: np.ndarray, slopes: Slopes, tolerances: np.ndarray
) -> list[list[Kink]]:
    """Finds kinks and jumps, in two lists.

    As steps shrink, the difference of the two slopes stays at a kink, and grows at a
    jump.

    Args:
      labels: what the K coordinates and directions are called.
      along: [K] what jax.grad says.
      slopes: what the differences say.
      tolerances: [K] largest differences of the two slopes that do not count.
    """
    left, right = slopes.left[:, KINK_STEP], slopes.right[:, KINK_STEP]
    jump, coarser = slopes.jump[:, KINK_STEP], slopes.jump[:, KINK_STEP - 1]
    found = slopes.stays[:, KINK_STEP - 1] & (jump > tolerances)
    grows = jump > 3 * coarser  # in proportion to 1/h, where fn itself jumps
    return [
        [
            Kink(labels[k], float(left[k]), float(right[k]), float(along[k]))
            for k in np.flatnonzero(found & which)
        ]
        for which in (~grows, grows)
    ]
