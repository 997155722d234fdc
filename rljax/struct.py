"""Frozen dataclasses that are pytrees, and the checks that their constructors share.

A field is a *leaf* (traced: it can be vmapped, differentiated and changed without a
retrace) unless it is declared with `static`, which makes it part of the tree's
structure: whatever fixes a shape or a branch.

    @struct.dataclass
    class Agent:
        learning_rate: float = 3e-4
        num_envs: int = struct.static(default=8)

A field declared with `scheduled` is a leaf when it holds a number and structure when it
holds a schedule, a function of the step such as optax's. One declared with `data` holds
arrays, such as a data set or parameters, where other leaves are scalars.

`__init__` and `__post_init__` run when a user builds an object, never when JAX
rebuilds one: a tree of gradients, axes or shardings has the agent's structure and
need not hold valid settings.
"""

import dataclasses
import numbers
import operator
from collections.abc import Collection
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np
from jax.core import Tracer

T = TypeVar("T")

LARGEST_INT = 2**31 - 1
"""Of int32, in which JAX counts."""


def static(default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field that is part of the pytree's structure: hashable, untraced."""
    return dataclasses.field(default=default, metadata={"static": True})


def scheduled(default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field that is a leaf, or a schedule and then structure."""
    return dataclasses.field(default=default, metadata={"scheduled": True})


def data(default: Any = dataclasses.MISSING, *, kw_only: bool = False) -> Any:
    """A dataclass field whose leaves are arrays: data, not a setting to be swept."""
    return dataclasses.field(default=default, metadata={"data": True}, kw_only=kw_only)


def without_data(obj: Any) -> Any:
    """`obj` without the fields that are data, None in their place; unchecked."""
    if not dataclasses.is_dataclass(obj):
        return obj
    copy = object.__new__(type(obj))
    for field in dataclasses.fields(obj):
        value = None if field.metadata.get("data") else getattr(obj, field.name)
        object.__setattr__(copy, field.name, value)
    return copy


def at_step(value: Any, step: jax.Array) -> Any:
    """The value of a scheduled field at a step: `value(step)`, or `value` itself."""
    return value(step) if callable(value) else value


@dataclass_transform(
    frozen_default=True, field_specifiers=(static, scheduled, data, dataclasses.field)
)
def dataclass(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen dataclass and registers it as a pytree."""
    data_cls = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(data_cls)  # pyright: ignore[reportArgumentType]
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    statics = tuple(f.name for f in fields if f.metadata.get("static"))
    scheduled = tuple(f.name for f in fields if f.metadata.get("scheduled"))

    def flatten(obj):
        schedules = tuple(
            (name, value) for name in scheduled if callable(value := getattr(obj, name))
        )
        children = (getattr(obj, name) for name in leaves)
        if schedules:
            names = [name for name, _ in schedules]
            children = (
                None if name in names else child
                for name, child in zip(leaves, children, strict=True)
            )
        return (
            tuple(children),
            (tuple(getattr(obj, name) for name in statics), schedules),
        )

    def flatten_with_keys(obj):
        children, structure = flatten(obj)
        keys = map(jax.tree_util.GetAttrKey, leaves)
        return tuple(zip(keys, children, strict=True)), structure

    def unflatten(structure, children):
        obj = object.__new__(data_cls)
        static_values, schedules = structure
        for name, value in zip(statics, static_values, strict=True):
            object.__setattr__(obj, name, value)
        for name, value in zip(leaves, children, strict=True):
            object.__setattr__(obj, name, value)
        for name, value in schedules:
            object.__setattr__(obj, name, value)
        return obj

    jax.tree_util.register_pytree_with_keys(
        data_cls, flatten_with_keys, unflatten, flatten
    )
    return data_cls


def check_reals(
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


def check_scalars(obj: Any, *names: str) -> None:
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


def check_ints(obj: Any, *names: str, minimum: int) -> None:
    """Checks static fields to be integers in [minimum, LARGEST_INT]; makes them `int`.

    Raises:
      TypeError: a value is not an integer (arrays and tracers are refused: a static
        field fixes a shape).
      ValueError: a value is out of bounds.
    """
    for name in names:
        label = f"{type(obj).__name__}.{name}"
        value = getattr(obj, name)
        value = check_int(label, value, minimum=minimum, maximum=LARGEST_INT)
        object.__setattr__(obj, name, value)


def check_int(
    label: str, value: Any, *, minimum: int, maximum: int | None = None
) -> int:
    """Returns `value` as an `int` in [minimum, maximum], or raises as `check_ints`."""
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


def check_sizes(obj: Any, name: str) -> None:
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
        check_int(f"{label}[{i}]", size, minimum=1, maximum=LARGEST_INT)
        for i, size in enumerate(sizes)
    )
    object.__setattr__(obj, name, tuple(checked))


def check_bools(obj: Any, *names: str) -> None:
    """Raises TypeError unless the static fields are bools."""
    for name in names:
        value = getattr(obj, name)
        if not isinstance(value, bool):
            raise TypeError(
                f"{type(obj).__name__}.{name} must be True or False, got {value!r}."
            )


def check_choice(obj: Any, name: str, choices: Collection[Any]) -> None:
    """Raises ValueError unless the static field `name` holds one of `choices`."""
    value = getattr(obj, name)
    if value not in list(choices):  # a list: `value` may be unhashable
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(
            f"{type(obj).__name__}.{name} must be one of {listed}, got {value!r}."
        )
