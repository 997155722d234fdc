"""Spaces and their elements, from ours to Gymnasium's and back.

Gymnasium is imported by the functions, so that this module can be read without it.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from rljax import spaces
from rljax.adapters import foreign


def to_gymnasium_space(space: Any) -> Any:
    """A space, or a dictionary or tuple of spaces, as one of Gymnasium's.

    Discrete, MultiDiscrete and Box become those of the same name, a dictionary becomes
    Dict and a tuple, named or not, becomes Tuple.

    Raises:
      ImportError: Gymnasium is missing.
      TypeError: it is none of these.
    """
    theirs = foreign.package("gymnasium", "to_gymnasium").spaces
    if isinstance(space, spaces.Discrete):
        return theirs.Discrete(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return theirs.MultiDiscrete(np.array(space.sizes))
    if isinstance(space, spaces.Box):
        dtype = jnp.result_type(space.dtype)
        low, high = (
            np.broadcast_to(np.asarray(bound).astype(dtype), space.shape)
            for bound in (space.low, space.high)
        )
        return theirs.Box(low, high, space.shape, dtype)
    if isinstance(space, dict):
        return theirs.Dict({k: to_gymnasium_space(part) for k, part in space.items()})
    if isinstance(space, tuple):
        return theirs.Tuple(tuple(map(to_gymnasium_space, space)))
    raise TypeError(f"Gymnasium has no space for {space!r}.")


def from_gymnasium_space(space: Any) -> Any:
    """One of Gymnasium's spaces as one of ours, or as a tree of ours.

    The reverse of `to_gymnasium_space`; MultiBinary becomes a Box of int8.

    Raises:
      ImportError: Gymnasium is missing.
      TypeError: we have nothing like it.
      ValueError: it is Discrete or MultiDiscrete, but does not start at 0, or has
        several axes.
    """
    theirs = foreign.package("gymnasium", "from_gymnasium").spaces
    if isinstance(space, theirs.Discrete | theirs.MultiDiscrete):
        if np.any(space.start):
            raise ValueError(
                f"a {type(space).__name__} space must start at 0, got {space!r}. Shift "
                "it in a wrapper: Gymnasium's TransformAction or TransformObservation."
            )
        if isinstance(space, theirs.Discrete):
            return spaces.Discrete(int(space.n))
        if space.nvec.ndim != 1:
            raise ValueError(
                f"a MultiDiscrete space must have one axis, got {space!r}. Flatten it "
                "in a wrapper: Gymnasium's TransformAction or TransformObservation."
            )
        return spaces.MultiDiscrete(tuple(int(n) for n in space.nvec))
    if isinstance(space, theirs.Box):
        return foreign.box(space.low, space.high, space.shape, space.dtype)
    if isinstance(space, theirs.MultiBinary):
        return foreign.box(0, 1, space.shape, np.int8)
    if isinstance(space, theirs.Dict):
        return {k: from_gymnasium_space(part) for k, part in space.spaces.items()}
    if isinstance(space, theirs.Tuple):
        return tuple(map(from_gymnasium_space, space.spaces))
    raise TypeError(f"from_gymnasium knows no space like {space!r}.")


def to_gymnasium_element(value: Any, space: Any) -> Any:
    """An observation of ours as an element of Gymnasium's space: new NumPy arrays."""
    theirs = foreign.package("gymnasium", "to_gymnasium").spaces
    if isinstance(space, theirs.Dict):
        return {k: to_gymnasium_element(value[k], s) for k, s in space.spaces.items()}
    if isinstance(space, theirs.Tuple):
        return tuple(map(to_gymnasium_element, value, space.spaces))
    if isinstance(space, theirs.Discrete):
        return np.int64(value)
    return np.array(value, space.dtype)
