"""What the adapters of other libraries' environments share."""

import dataclasses
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import contract, random, spaces


def package(name: str, needed_by: str, pip: str | None = None) -> Any:
    """The imported package `name`.

    Args:
      name: what Python imports.
      needed_by: whose message it is, such as "from_gymnax".
      pip: what pip installs; None: `name`.

    Raises:
      ImportError: it is missing; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if missing.split(".")[0] == name.split(".")[0]:
            missing = pip or name  # else it is one that the package itself needs
        raise ImportError(
            f"{needed_by} needs {name}: pip install {missing}."
        ) from error


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A space of an environment, or a tree of spaces, as structure.

    As leaves the bounds would be traced under jit, and agents ask for those of integers
    while they are. Those of one environment are equal: a program serves all of them.
    """

    env: Any
    """Another library's environment, which says what the space is."""
    space: Any = dataclasses.field(compare=False)
    """Its space, or tree of spaces."""


def action_space(who: str, space: Any) -> spaces.Space:
    """The space of actions, which is a single one.

    Raises:
      TypeError: it is a tree of spaces; `who` names the function that found it.
    """
    if not isinstance(space, spaces.Space):
        raise TypeError(
            f"{who} takes environments with one action space, Discrete, MultiDiscrete "
            f"or Box, got {space!r}. Join its parts in a wrapper."
        )
    return space


def box(low: Any, high: Any, shape: Any, dtype: Any) -> spaces.Box:
    """A Box of the bounds that another library's space or spec has.

    Where they are concrete they become NumPy's, as a space may be asked for under jit.
    Flags become integers, 0 or 1.
    """
    if jnp.issubdtype(dtype, jnp.bool_):  # a flag is a number here: 0 or 1
        return spaces.Box(0, 1, tuple(shape), jnp.int8)
    low, high = (x if isinstance(x, Tracer) else np.asarray(x) for x in (low, high))
    dtype = jax.dtypes.canonicalize_dtype(dtype)  # float32 for float64 without x64
    return spaces.Box(low, high, tuple(shape), dtype)


def unbounded(shape: Any, dtype: Any) -> spaces.Box:
    """All arrays of a shape and dtype; flags become integers, 0 or 1."""
    dtype = jnp.dtype(dtype)
    if jnp.issubdtype(dtype, jnp.integer):
        limits = jnp.iinfo(dtype)
        return spaces.Box(limits.min, limits.max, tuple(shape), dtype)
    return box(-np.inf, np.inf, shape, dtype)


def strong(tree: Any) -> Any:
    """The tree with arrays of strong dtypes for leaves: a state after `reset`."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), tree)


def as_before(who: str, after: Any, before: Any) -> Any:
    """A state after `step` with the dtypes that it had after `reset`.

    Raises:
      TypeError, ValueError: its structure or a shape is another, or a dtype is of
        another kind, such as floating after an integer.
    """
    contract.check_alike(f"{who}'s state", after, before, "reset")
    return jax.tree_util.tree_map_with_path(
        lambda path, new, old: _cast(
            f"{who}'s state{jax.tree_util.keystr(path)}", new, old.dtype
        ),
        after,
        before,
    )


def as_space(obs: Any, space: Any) -> Any:
    """An observation with the dtypes of its space, or tree of spaces.

    A part whose dtype is of another kind than its space says, such as floating where
    the space holds integers, stays as it is: agents can learn from it all the same, and
    `rljax.testing.check_env` names it.

    Raises:
      ValueError: its structure is not that of the spaces.
    """
    tree = spaces.structure(space)
    parts = map(jnp.asarray, tree.flatten_up_to(obs))
    return tree.unflatten(
        [
            part.astype(one.dtype if _fits(part, one.dtype) else part.dtype)
            for part, one in zip(parts, tree.flatten_up_to(space), strict=True)
        ]
    )


def as_flag(value: Any) -> jax.Array:
    """An end flag, [] bool, from a flag or a number that is 0 or 1."""
    return jnp.asarray(value).astype(bool)


def as_reward(value: Any) -> jax.Array:
    """A reward of JAX's default float."""
    return jnp.asarray(value).astype(float)


def _cast(what: str, value: Any, dtype: Any) -> jax.Array:
    array = jnp.asarray(value)
    if random.is_typed_key(array):
        return array
    if not _fits(array, dtype):
        raise TypeError(
            f"{what} has the dtype {array.dtype} after step, {dtype} after reset. "
            "Report it to the library that the environment is from."
        )
    return array.astype(dtype)


def _fits(array: jax.Array, dtype: Any) -> bool:
    """Whether a cast keeps the kind of number: flag < integer < floating."""
    return np.can_cast(array.dtype, jnp.result_type(dtype), "same_kind")
