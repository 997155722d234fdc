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
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

T = TypeVar("T")


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


def at_step(value: Any, step: jax.Array, maximum: float) -> Any:
    """The value of a scheduled field at a step: `value(step)`, or `value` itself.

    What a schedule returns is clipped to [0, maximum], where a number has to lie that
    is given in its place: the textbook's c/t is above 1 at first.
    """
    if not callable(value):
        return value
    return jnp.clip(jnp.asarray(value(step)), 0, maximum)


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
