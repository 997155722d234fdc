"""What the checks of both contracts share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def require(condition: Any, message: str) -> None:
    """Raises AssertionError unless `condition`; not an assert, which -O would drop."""
    if not condition:
        raise AssertionError(message)


def is_pair(value: Any) -> bool:
    """Whether `value` is a tuple of two."""
    return isinstance(value, tuple) and len(value) == 2


def require_arrays(tree: Any, what: str) -> None:
    """Requires every leaf to be a jax.Array of a strong type."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = f"{jax.tree_util.keystr(path)} of what it returns"
        require(
            isinstance(leaf, jax.Array),
            f"{what} must return arrays, but {where} is {leaf!r}",
        )


def require_same_types(
    after: Any, before: Any, what: str, times: tuple[str, str]
) -> None:
    """Requires one structure and for every leaf one shape and one strong dtype.

    Args:
      after: tree of arrays or their shapes.
      before: the same of earlier.
      what: the tree's name.
      times: when `after` and `before` were, such as ("after step", "after reset").
    """
    structures = jax.tree.structure(after), jax.tree.structure(before)
    require(
        structures[0] == structures[1],
        f"{what} has structure {structures[0]} {times[0]}, {structures[1]} {times[1]}",
    )
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(after), jax.tree.leaves(before), strict=True
    ):
        where = f"{what}{jax.tree_util.keystr(path)}"
        require(
            (a.shape, a.dtype) == (b.shape, b.dtype),
            f"{where} is {a} {times[0]}, but {b} {times[1]}",
        )
        require_strong(a, where)
        require_strong(b, where)


def require_strong(tree: Any, where: str) -> None:
    """Requires no leaf to be weakly typed: each such one compiles a second time."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        require(
            not leaf.weak_type,
            f"{where}{jax.tree_util.keystr(path) if tree is not leaf else ''} is "
            "weakly typed; give its array a dtype",
        )


def require_element(space: Any, value: Any, what: str) -> None:
    """Requires `value` to be one element of `space`, dtype included."""
    expected = (space.shape, jnp.dtype(jnp.result_type(space.dtype)))
    require(isinstance(value, jax.Array), f"{what} must be one array, is {value!r}")
    got = (value.shape, value.dtype)
    require(got == expected, f"{what} has shape and dtype {got}, its space {expected}")
    require(space.contains(value), f"{what} is outside its space: {value}")


def require_finite(tree: Any, what: str, *, or_infinite: bool = False) -> None:
    """Requires every floating number to be finite, or at least not NaN."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            where = f"{what}{jax.tree_util.keystr(path)}"
            if or_infinite:
                require(not jnp.isnan(leaf).any(), f"{where} holds NaN: {leaf}")
            else:
                require(jnp.isfinite(leaf).all(), f"{where} is not finite: {leaf}")


def require_pure(fn: Callable[..., Any], cases: list[tuple[Any, ...]], name: str):
    """Requires one result from two calls, without jit, and under vmap over the cases.

    Args:
      fn: function of arrays.
      cases: several tuples of arguments, alike in shape.
      name: what to call `fn`.

    Raises:
      AssertionError: it differs, or leaves a tracer behind: which leaf, which index,
        both numbers.
    """
    try:
        with jax.checking_leaks():
            jax.eval_shape(lambda *args: fn(*args), *cases[0])
    except Exception as error:
        if "leak" not in str(error).lower():
            raise
        raise AssertionError(
            f"{name} leaves a traced value behind, in an attribute or a global: it is "
            f"not pure. {error}"
        ) from error
    jitted = jax.jit(fn)
    outs = [jitted(*case) for case in cases]
    what = f"{name} differs between two calls"
    require_equal(jitted(*cases[0]), outs[0], what, exact=True)
    require_equal(fn(*cases[0]), outs[0], f"{name} differs without and with jit")
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *cases)
    batched = jax.jit(jax.vmap(fn))(*stacked)
    for i, out in enumerate(outs):
        one = jax.tree.map(lambda x, i=i: x[i], batched)
        require_equal(one, out, f"{name} differs under vmap and without")


def require_equal(a: Any, b: Any, what: str, *, exact: bool = False) -> None:
    """Requires two trees to be equal, or nearly so: 1e-5 relative, 1e-6 absolute."""
    require(
        jax.tree.structure(a) == jax.tree.structure(b),
        f"{what}: structure {jax.tree.structure(a)} and {jax.tree.structure(b)}",
    )
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        x, y = jnp.asarray(x), jnp.asarray(y)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        x, y = np.asarray(x), np.asarray(y)
        where = f"{what}: {jax.tree_util.keystr(path)}"
        require(x.shape == y.shape, f"{where} has shape {x.shape} and {y.shape}")
        tolerance = 0.0 if exact else 1e-5
        close = np.isclose(x, y, tolerance, tolerance / 10, equal_nan=True)
        if not close.all():
            index = tuple(int(i) for i in np.argwhere(~close)[0])
            place = f"[{', '.join(map(str, index))}]" if index else ""
            raise AssertionError(f"{where}{place} is {x[index]} and {y[index]}")
