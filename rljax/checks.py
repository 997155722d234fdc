"""Checks that constructors share: each names the field, the value and the remedy."""

import numbers
import operator
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from rljax.struct import without_data

LARGEST_INT = 2**31 - 1
"""Of int32, in which JAX counts."""


def reals(
    obj: Any,
    *names: str,
    minimum: float = -np.inf,
    maximum: float = np.inf,
    open_minimum: bool = False,
    optional: bool = False,
    schedule: bool = False,
) -> None:
    """Checks leaf fields to be finite numbers in [minimum, maximum].

    With `open_minimum` the minimum itself is refused; with `optional`, None passes;
    with `schedule`, a function of the step does.
    Scalars of any kind become `float`, so that 1, 1.0 and jnp.float32(1) compile one
    and the same program. Traced values are left alone.

    Raises:
      TypeError: a value is not a real number or an array of them.
      ValueError: a value is infinite, NaN or out of range.
    """
    where = f"in {'(' if open_minimum else '['}{minimum:g}, {maximum:g}]"
    if minimum == -np.inf:
        where = "finite"
    elif maximum == np.inf:
        where = f"finite and {'more than' if open_minimum else 'at least'} {minimum:g}"
    for name in names:
        value = getattr(obj, name)
        label = f"{type(obj).__name__}.{name}"
        if value is None and optional:
            continue
        if schedule and callable(value):
            _check_schedule(label, value)
            continue
        if isinstance(value, Tracer):
            continue
        is_array = isinstance(value, jax.Array | np.ndarray)
        kind = np.asarray(value).dtype.kind if is_array else None
        is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_real and kind not in ("f", "i", "u", "V"):  # V: bfloat16
            raise TypeError(
                f"{label} must be a real number, {where}, got {value!r}. Pass a float, "
                "or an array of floats to vmap over."
            )
        try:
            array = np.asarray(value, float)
        except OverflowError:
            raise ValueError(f"{label} must be {where}, got {value!r}.") from None
        dtype = jax.numpy.result_type(float)
        with np.errstate(over="ignore", under="ignore"):
            used = array.astype(dtype)
        above = used > minimum if open_minimum else array >= minimum
        if not (np.isfinite(used) & above & (array <= maximum)).all():
            rounded = "" if (used == array).all() else f", which is {used} in {dtype}"
            raise ValueError(f"{label} must be {where}, got {value!r}{rounded}.")
        if array.ndim == 0:
            object.__setattr__(obj, name, float(array))
        elif kind in ("i", "u"):
            object.__setattr__(obj, name, jax.numpy.asarray(value, float))


def _check_schedule(label: str, schedule: Any) -> None:
    """Raises TypeError unless `schedule` maps a step to a scalar."""
    step = jax.ShapeDtypeStruct((), jax.numpy.int32)
    try:
        shape = jax.eval_shape(schedule, step).shape
    except Exception as error:
        raise TypeError(
            f"{label} must be a number or a schedule, a function of the step such as "
            f"optax.linear_schedule returns; {schedule!r} failed: {error}"
        ) from error
    if shape != ():
        raise TypeError(
            f"{label}'s schedule must return a scalar, returns shape {shape}."
        )


def scalars(obj: Any, *names: str) -> None:
    """Checks that every leaf is a scalar, as it is inside a vmap over settings.

    Fields declared with `data` apart; with `names`, the leaves of these fields alone.

    Raises:
      ValueError: a leaf is an array of settings, to be vmapped over.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(without_data(obj)):
        if np.ndim(leaf) and (not names or path[0].name in names):
            raise ValueError(
                f"{type(obj).__name__}{jax.tree_util.keystr(path)} must be a scalar "
                f"here, has shape {np.shape(leaf)}. vmap over it: jax.vmap(lambda x: … "
                f"{type(obj).__name__}(…=x) …)(values)."
            )


def ints(obj: Any, *names: str, minimum: int) -> None:
    """Checks static fields to be integers in [minimum, LARGEST_INT]; makes them `int`.

    Raises:
      TypeError: a value is not an integer (arrays and tracers are refused: a static
        field fixes a shape).
      ValueError: a value is out of bounds.
    """
    for name in names:
        label = f"{type(obj).__name__}.{name}"
        value = getattr(obj, name)
        value = integer(label, value, minimum=minimum, maximum=LARGEST_INT)
        object.__setattr__(obj, name, value)


def integer(label: str, value: Any, *, minimum: int, maximum: int | None = None) -> int:
    """Returns `value` as an `int` in [minimum, maximum], or raises as `ints`."""
    if isinstance(value, bool | np.bool_ | jax.Array | np.ndarray):
        raise TypeError(
            f"{label} must be a Python integer, got {value!r}. It fixes a shape, so it "
            "can't be an array, traced or vmapped: make one call per value."
        )
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{label} must be an integer, got {value!r}.") from None
    if value < minimum:
        raise ValueError(f"{label} must be at least {minimum}, got {value}.")
    if maximum is not None and value > maximum:
        raise ValueError(f"{label} must be at most {maximum}, got {value}.")
    return value


def sizes(obj: Any, name: str) -> None:
    """Checks a static field to be a tuple or list of integers of 1 or more.

    Raises:
      TypeError, ValueError: it is not.
    """
    label, sizes = f"{type(obj).__name__}.{name}", getattr(obj, name)
    if not isinstance(sizes, tuple | list):
        raise TypeError(
            f"{label} must be a tuple of integers such as (64, 64), got {sizes!r}."
        )
    checked = (
        integer(f"{label}[{i}]", size, minimum=1, maximum=LARGEST_INT)
        for i, size in enumerate(sizes)
    )
    object.__setattr__(obj, name, tuple(checked))


def bools(obj: Any, *names: str) -> None:
    """Raises TypeError unless the static fields are bools."""
    for name in names:
        boolean(f"{type(obj).__name__}.{name}", getattr(obj, name))


def boolean(label: str, value: Any) -> bool:
    """Returns `value` if it is a bool, or raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{label} must be True or False, got {value!r}.")
    return value


def path(label: str, value: Any) -> Path:
    """Returns `value` as a `Path`, or raises TypeError."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{label} must be a path, got {value!r}.")
    return Path(value)


def instance(label: str, value: Any, kind: type, origin: str) -> None:
    """Raises TypeError unless `value` is of a class; `origin` says where to get one."""
    if not isinstance(value, kind):
        raise TypeError(
            f"{label} must be a {kind.__name__}, such as {origin}, got {value!r}."
        )


def choice(obj: Any, name: str, choices: Collection[Any]) -> None:
    """Raises ValueError unless the static field `name` holds one of `choices`."""
    value = getattr(obj, name)
    if value not in list(choices):  # a list: `value` may be unhashable
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(
            f"{type(obj).__name__}.{name} must be one of {listed}, got {value!r}."
        )


def same_shape(**arrays: Any) -> None:
    """Raises ValueError unless the arrays have one shape.

    A broadcast of [B] against [B, 1] would silently give something over [B, B].
    """
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes must be equal, all must have one shape: {listed}.")


def floating(**arrays: Any) -> list[Any]:
    """The arrays as floating ones, of float32 at least.

    In bfloat16, a sum of 32,000 numbers keeps two digits, and float16 ends at 65,504.
    So whatever is computed from bfloat16 or float16 is computed in float32; float32 and
    float64 stay as they are, and integers become JAX's default. A gradient comes back
    in the dtype of what was passed, as the derivative of a cast is a cast. Python's
    numbers stay Python's, which take the dtype of the arrays beside them.

    Raises:
      TypeError: an array holds no real numbers, but flags for example.
    """
    return [_floating(name, array) for name, array in arrays.items()]


def _floating(name: str, value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    array = _of_kind(name, value, "real numbers", np.integer, np.floating)
    if jax.numpy.issubdtype(array.dtype, np.integer):
        return array * 1.0 if array.weak_type else array.astype(float)
    is_half = jax.numpy.finfo(array.dtype).bits < 32
    return array.astype(np.float32) if is_half else array


def flags(**arrays: Any) -> list[jax.Array]:
    """The arrays, if they are bool; else raises TypeError."""
    return [_of_kind(name, x, "bool", np.bool_) for name, x in arrays.items()]


def integers(**arrays: Any) -> list[jax.Array]:
    """The arrays, if they are of an integer dtype; else raises TypeError."""
    return [_of_kind(name, x, "integers", np.integer) for name, x in arrays.items()]


def _of_kind(name: str, value: Any, what: str, *kinds: type) -> jax.Array:
    array = as_array(name, value)
    if not any(jax.numpy.issubdtype(array.dtype, kind) for kind in kinds):
        raise TypeError(
            f"{name} must be {what} here, got {array.dtype}. Are the arguments in "
            "their order?"
        )
    return array


def as_array(label: str, value: Any) -> jax.Array:
    """`value` as an array; raises TypeError if it is nothing that could be one."""
    try:
        return jax.numpy.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"{label} must be an array, got {value!r}.") from None


def as_floats(label: str, value: Any) -> np.ndarray:
    """`value` as NumPy's array of float64; raises TypeError if it holds no numbers."""
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        raise TypeError(f"{label} must be real numbers, got {value!r}.") from None


def rows(**array: Any) -> Any:
    """The one argument as `floating` gives it, if it is [..., A] with A of 1 or more.

    Raises:
      TypeError: it does not hold real numbers.
      ValueError: it has no last axis, or an empty one.
    """
    ((name, given),) = array.items()
    (checked,) = floating(**array)
    if not np.ndim(checked) or not checked.shape[-1]:
        raise ValueError(
            f"{name} must have a last axis with an entry for each action, got "
            f"{given!r}."
        )
    return checked


def alike(**arrays: Any) -> list[Any]:
    """The arrays as `floating` ones, if they have one shape; raises as `same_shape`."""
    same_shape(**arrays)
    return floating(**arrays)


def trajectory(**arrays: Any) -> None:
    """Raises ValueError unless the arrays are of one trajectory, all [T]."""
    shapes = {np.shape(array) for array in arrays.values()}
    if len(shapes) > 1 or len(*shapes) != 1:
        listed = ", ".join(f"{name} {np.shape(x)}" for name, x in arrays.items())
        raise ValueError(
            f"all arrays of one trajectory must have one shape [T], got {listed}. "
            "vmap over a batch of trajectories."
        )


def scalar(
    minimum: float = -np.inf,
    maximum: float = np.inf,
    *,
    open_minimum: bool = False,
    optional: bool = False,
    **value: Any,
) -> Any:
    """The one argument, a scalar in the range, as `floating` gives it.

    With `open_minimum` the minimum itself is refused; with `optional`, None passes.

    Raises:
      TypeError: it is not a real number.
      ValueError: it is an array, or out of the range and not traced.
    """
    ((name, given),) = value.items()
    if given is None and optional:
        return None
    (number,) = floating(**value)
    if np.ndim(number):
        raise ValueError(
            f"{name} must be a scalar, got shape {np.shape(number)}. vmap over several."
        )
    if isinstance(number, Tracer) or minimum == -np.inf:
        return number
    found = float(number)
    above = found > minimum if open_minimum else found >= minimum
    if not (above and found <= maximum):
        where = f"{'more than' if open_minimum else 'at least'} {minimum:g}"
        where = where if maximum == np.inf else f"in [{minimum:g}, {maximum:g}]"
        none = "None or " if optional else ""
        raise ValueError(f"{name} must be {none}{where}, got {given}.")
    return number


def key(key: Any) -> None:
    """Accepts one random key, typed or legacy.

    Raises:
      TypeError: `key` is no JAX random key.
      ValueError: `key` is an array of keys.
    """
    random_keys(key)
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    is_threefry = jax.config.jax_default_prng_impl == "threefry2x32"  # pyright: ignore[reportAttributeAccessIssue]
    size = 2 if is_threefry else 4
    legacy = key.dtype == "uint32" and key.shape[-1:] == (size,)
    if not (isinstance(key, jax.Array) and (typed or legacy)):
        raise _no_key(key)
    batch_shape = key.shape if typed else key.shape[:-1]
    if batch_shape:
        raise ValueError(
            f"key must be a single key, got keys of shape {batch_shape}. vmap over "
            "them: jax.vmap(lambda key: …)(keys)."
        )


def random_keys(keys: Any) -> None:
    """Raises TypeError unless these are random keys, typed or legacy, of any shape."""
    is_array = isinstance(keys, jax.Array | np.ndarray)
    if not is_array or not (
        jax.numpy.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.dtype == "uint32"
    ):
        raise _no_key(keys)


def _no_key(found: Any) -> TypeError:
    return TypeError(
        f"key must be a random key such as jax.random.key(0), got {found!r}."
    )
