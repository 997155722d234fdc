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
    array = jax.numpy.asarray(value)
    if not any(jax.numpy.issubdtype(array.dtype, kind) for kind in kinds):
        raise TypeError(
            f"{name} must be {what} here, got {array.dtype}. Are the arguments in "
            "their order?"
        )
    return array


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


def scalar(**value: Any) -> None:
    """Raises ValueError unless the one argument is a scalar."""
    ((name, number),) = value.items()
    if np.ndim(number):
        raise ValueError(
            f"{name} must be a scalar, got shape {np.shape(number)}. vmap over several."
        )


def scalar_above(minimum: float, **value: Any) -> Any:
    """The one argument, a scalar of more than `minimum`, as `floating` gives it.

    Raises:
      TypeError, ValueError: it is no such scalar; traced values are left alone.
    """
    scalar(**value)
    ((name, given),) = value.items()
    (number,) = floating(**value)
    if not isinstance(number, Tracer) and not float(number) > minimum:
        raise ValueError(f"{name} must be None or more than {minimum:g}, got {given}.")
    return number


def key(key: Any) -> None:
    """Accepts one random key, typed or legacy.

    Raises:
      TypeError: `key` is no JAX random key.
      ValueError: `key` is an array of keys.
    """
    is_array = isinstance(key, jax.Array)
    typed = is_array and jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    is_threefry = jax.config.jax_default_prng_impl == "threefry2x32"  # pyright: ignore[reportAttributeAccessIssue]
    size = 2 if is_threefry else 4
    legacy = is_array and key.dtype == "uint32" and key.shape[-1:] == (size,)
    if not (typed or legacy):
        raise TypeError(
            f"key must be a random key such as jax.random.key(0), got {key!r}."
        )
    batch_shape = key.shape if typed else key.shape[:-1]
    if batch_shape:
        raise ValueError(
            f"key must be a single key, got keys of shape {batch_shape}. vmap over "
            "them: jax.vmap(lambda key: …)(keys)."
        )
