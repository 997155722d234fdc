"""Descriptions of values as JSON, to check that a resumed run is still the same."""

import copyreg
import dataclasses
import dis
import functools
import hashlib
import json
import sys
import types
from typing import Any

import jax
import numpy as np

from rljax.experiment.checkpoint import CheckpointError
from rljax.random import is_typed_key

_DATA = bool | int | float | str | bytes | tuple | np.generic | np.ndarray | jax.Array


def describe(value: Any, name: str = "value") -> Any:
    """A value as JSON, equal in every process that builds the value anew.

    Functions and classes that can be imported are described by their name: a change of
    their source is not seen. Other functions, such as lambdas and closures, are
    described by their code and by what they have captured, their defaults, and the
    numbers, strings, tuples and arrays among the global variables that they read;
    other classes by their members. Arrays are described by their contents, dataclasses
    by their fields, and all other objects by what pickle would save of them.

    Args:
      value: what to describe.
      name: what an error calls the value.

    Raises:
      TypeError: the value holds something that pickle refuses, such as a lock or an
        open file. The message says where.
    """
    try:
        return _describe(value, name, ())
    except RecursionError:
        raise TypeError(f"{name} is nested too deeply to be described.") from None


def _describe(value: Any, path: str, above: tuple[Any, ...]) -> Any:
    """`describe` for a part of a value, with what holds it, the outermost first."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, jax.Array) and is_typed_key(value):
        return {"key": np.asarray(jax.random.key_data(value)).tolist()}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        is_plain = array.dtype.kind in "biufV"  # V: bfloat16
        return array.tolist() if is_plain else _describe(array.tolist(), path, above)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    for levels, holder in enumerate(reversed(above), 1):
        if holder is value:
            return {"levels_above": levels}
    above = (*above, value)
    if type(value) in (tuple, list):
        return [_describe(x, f"{path}[{i}]", above) for i, x in enumerate(value)]
    if type(value) in (set, frozenset):
        # In an order of its own: that of a set of strings differs between processes.
        elements = [_describe(x, f"{path}.element", above) for x in value]
        return {"set": sorted(elements, key=json.dumps)}
    parts = _parts(value, path)
    if isinstance(parts, str):
        return parts
    return {name: _describe(x, f"{path}.{name}", above) for name, x in parts.items()}


def _parts(value: Any, path: str) -> dict[str, Any] | str:
    """What an object consists of, by name; or its own name if it can be imported."""
    if type(value) in (dict, types.MappingProxyType):
        if all(isinstance(key, str) for key in value):
            return dict(value)
        return {"keys": list(value), "values": list(value.values())}
    if isinstance(value, types.ModuleType):
        return value.__name__
    name = import_name(value)
    if isinstance(value, types.FunctionType):
        return _function_parts(value, name)
    if name is not None:
        return name
    if isinstance(value, types.MethodType):
        return {"method": value.__func__, "self": value.__self__}
    if isinstance(value, types.CodeType):
        return {
            "bytecode": hashlib.sha256(value.co_code).hexdigest()[:16],
            "names": value.co_names,
            "constants": value.co_consts,
        }
    if isinstance(value, property):
        return {"get": value.fget, "set": value.fset}
    if isinstance(value, functools.cached_property):
        return {"get": value.func}
    if isinstance(value, type):
        return _class_parts(value)
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return {"class": type(value), **fields}
    if hasattr(value, "__wrapped__"):  # such as jax.jit makes
        return {"class": type(value), "wrapped": value.__wrapped__, **_own(value)}
    return _pickled_parts(value, path)


def import_name(value: Any) -> str | None:
    """The name by which a function or class is imported, if it can be."""
    module, name = (getattr(value, x, None) for x in ("__module__", "__qualname__"))
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not value:
        return None
    # Checkpoints are to outlive a move of an agent or environment within rljax.
    ours = isinstance(value, type) and module.startswith("rljax.")
    return name if ours else f"{module}.{name}"


def _function_parts(value: types.FunctionType, name: str | None) -> Any:
    defaults = {}
    if value.__defaults__ or value.__kwdefaults__:
        defaults = {"defaults": [value.__defaults__, value.__kwdefaults__]}
    if name is not None:
        return {"function": name, **defaults} if defaults else name
    # An empty cell belongs to a variable that has no value yet, or none any more.
    cells = [cell for cell in value.__closure__ or () if cell != types.CellType()]
    return {
        "function": value.__qualname__,
        "code": value.__code__,
        "captured": [cell.cell_contents for cell in cells],
        **defaults,
        "reads": {
            name: value.__globals__[name]
            for name in sorted(_global_names(value.__code__))
            if isinstance(value.__globals__.get(name), _DATA)
        },
        **_own(value),
    }


def _global_names(code: types.CodeType) -> set[str]:
    """The global variables that a function and those inside of it read."""
    loads = (i for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    inside = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return {load.argval for load in loads}.union(*map(_global_names, inside))


def _class_parts(value: type) -> dict[str, Any]:
    members = {
        name: member
        for name, member in vars(value).items()
        if isinstance(member, types.FunctionType)
        or not (name.startswith("__") or name == "_abc_impl")
    }
    return {"class": value.__qualname__, "bases": value.__bases__, **members}


def _own(value: Any) -> dict[str, Any]:
    """The attributes of a function's own: not those that say what it is called."""
    return {
        name: attribute
        for name, attribute in getattr(value, "__dict__", {}).items()
        if not name.startswith("__")
    }


def _pickled_parts(value: Any, path: str) -> dict[str, Any] | str:
    """What pickle would save of an object: its class, arguments, state and elements."""
    try:
        reduced: Any = value.__reduce_ex__(4)
    except Exception as error:
        raise TypeError(
            f"{path} is a {type(value).__name__}, which can't be described to tell "
            f"whether a resumed run has the same one: {error}. Keep it out of agents, "
            "environments and measures, or define __getstate__ without it."
        ) from error
    if isinstance(reduced, str):
        return reduced
    made_by, arguments, *rest = reduced
    state, elements, items = (*rest, None, None, None)[:3]
    if made_by is copyreg.__newobj__:  # pyright: ignore[reportAttributeAccessIssue]
        parts = {"class": arguments[0], "arguments": arguments[1:]}
    else:
        parts = {"made_by": made_by, "arguments": arguments}
    if elements is not None:
        parts["elements"] = list(elements)
    if items is not None:
        parts["items"] = dict(items)
    # The state is a dictionary of attributes, or one of them and one of those in slots.
    for held in state if isinstance(state, tuple) else (state,):
        if not isinstance(held, dict | None) or not all(
            isinstance(name, str) for name in held or ()
        ):
            return parts | {"state": state}
        parts |= held or {}
    return parts


def digest(value: Any) -> str:
    """The first eight hexadecimal digits of a hash of the value's description."""
    return hashlib.sha256(json.dumps(describe(value)).encode()).hexdigest()[:8]


def check_same(folder: Any, there: Any, here: Any, path: str = "") -> None:
    """Raises a CheckpointError that names the first difference of two descriptions.

    Args:
      folder: the checkpoint's folder, for the message.
      there: the description in the checkpoint.
      here: the description of what is asked for.
      path: where in the descriptions these two values are.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for name in [*here, *there]:
            inner = f"{path}.{name}".lstrip(".")
            if name not in there or name not in here:
                where = "not there" if name not in there else "there alone"
                raise CheckpointError(
                    f"{folder} is of another run: {inner} is {where}."
                )
            check_same(folder, there[name], here[name], inner)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for i, pair in enumerate(zip(there, here, strict=True)):
            check_same(folder, *pair, f"{path}[{i}]")
    elif json.dumps(there) != json.dumps(here):  # so that NaN equals NaN
        raise CheckpointError(
            f"{folder} is of another run: {path} is {there!r} there and {here!r} here. "
            "Resume with the same, or choose another folder."
        )
