"""What the checks of both contracts share."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, spaces
from rljax.display import in_words
from rljax.random import is_typed_key, words_depend_on_batch


def require(condition: Any, message: str) -> None:
    """Raises AssertionError unless `condition` holds; -O would drop a plain assert."""
    if not condition:
        raise AssertionError(message)


def require_key(key: jax.Array) -> None:
    """Raises ValueError for a key whose words under vmap are others than without."""
    checks.key(key)
    if words_depend_on_batch(key):
        raise ValueError(
            "key must be of a kind whose words are the same under vmap and without, "
            f"such as jax.random.key(0), got one of {jax.random.key_impl(key)!r}."
        )


def require_arguments(obj: Any, name: str, expected: list[str]) -> None:
    """Requires a method that can be called with these, by position; names are free."""
    signature = inspect.signature(getattr(obj, name))
    names = list(signature.parameters)
    try:
        signature.bind(*expected)
        fits = names == expected or sorted(names) != sorted(expected)
    except TypeError:
        fits = False
    require(
        fits,
        f"{name} takes {names}, but rollouts call it with {expected}, in this order",
    )


def is_pair(value: Any) -> bool:
    """Whether `value` is a tuple of two."""
    return isinstance(value, tuple) and len(value) == 2


def require_arrays(tree: Any, what: str) -> None:
    """Requires every leaf to be a jax.Array."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = f"{jax.tree_util.keystr(path)} of what it returns"
        require(
            isinstance(leaf, jax.Array),
            f"{what} must return arrays, but {where} is of type "
            f"{type(leaf).__name__}, {in_words(leaf)}; make it an array, "
            "jnp.asarray(value, jnp.float32)",
        )


def require_same_types(
    after: Any, before: Any, what: str, times: tuple[str, str]
) -> None:
    """Requires two trees to agree in structure, shapes and strong dtypes.

    Args:
      after: tree of arrays or their shapes.
      before: the same tree at an earlier time.
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
    """Requires that no leaf is weakly typed: JAX would then compile a second time."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        require(
            not leaf.weak_type,
            f"{where}{jax.tree_util.keystr(path) if tree is not leaf else ''} is "
            "weakly typed, as Python's numbers make it, and JAX would compile twice; "
            "give it a dtype, jnp.asarray(value, jnp.float32)",
        )


def equal(a: Any, b: Any) -> bool:
    """Whether two trees are equal to the last bit."""
    try:
        require_equal(a, b, "", exact=True)
    except AssertionError:
        return False
    return True


def require_draws(draw: Callable[[tuple[int, ...]], Any]) -> None:
    """Requires what `draw(shape)` returns to have leaves [*shape, …] for any shape."""
    single, many = (jax.eval_shape(lambda s=s: draw(s)) for s in ((), (2, 3)))
    for one, some in zip(jax.tree.leaves(single), jax.tree.leaves(many), strict=True):
        require(
            some.shape == (2, 3, *one.shape) and some.dtype == one.dtype,
            f"draw((2, 3), key) must return leaves of shape {(2, 3, *one.shape)}, "
            f"returns {some}",
        )


def require_element(space: Any, value: Any, what: str) -> None:
    """Requires `value` to be one element of a space, or of a tree of spaces."""
    tree = spaces.structure(space)
    if not jax.tree_util.treedef_is_leaf(tree):
        try:
            parts = tree.flatten_up_to(value)
        except ValueError as error:
            raise AssertionError(f"{what} does not fit its space: {error}") from error
        for one, part in zip(tree.flatten_up_to(space), parts, strict=True):
            require_element(one, part, what)
        return
    expected = (space.shape, jnp.dtype(jnp.result_type(space.dtype)))
    is_array = isinstance(value, jax.Array)
    require(is_array, f"{what} must be one array, is {in_words(value)}")
    got = (value.shape, value.dtype)
    require(got == expected, f"{what} has shape and dtype {got}, its space {expected}")
    inside = space.contains(value)
    require(inside, f"{what} is outside its space {space}: {in_words(value)}")


def require_finite(tree: Any, what: str, *, or_infinite: bool = False) -> None:
    """Requires every floating number to be finite, or at least not NaN."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            where = f"{what}{jax.tree_util.keystr(path)}"
            if or_infinite:
                require(
                    not jnp.isnan(leaf).any(), f"{where} holds NaN: {in_words(leaf)}"
                )
            else:
                all_finite = jnp.isfinite(leaf).all()
                require(all_finite, f"{where} is not finite: {in_words(leaf)}")


def require_pure(fn: Callable[..., Any], cases: list[tuple[Any, ...]], name: str):
    """Requires `fn` to give one result in two calls, without jit, and under vmap.

    Args:
      fn: function of arrays.
      cases: several tuples of arguments of the same shapes; vmap is over all of them.
      name: the name of `fn` in messages.

    Raises:
      AssertionError: a result differs, and the message names the leaf, the index and
        both numbers; or `fn` leaves a tracer behind.
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
        if is_typed_key(x):
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
