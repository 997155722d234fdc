"""Descriptions of values as JSON, to check that a resumed run is still the same."""

import dataclasses
import functools
import hashlib
import json
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rljax.experiment.checkpoint import CheckpointError
from rljax.random import is_typed_key


def describe(value: Any) -> Any:
    """A value as JSON, whatever its fields hold.

    Dataclasses are described by their fields, arrays by their contents, lambdas and
    closures by their code and what they have captured, other functions by their name,
    and all other objects by the name of their type.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, jax.Array) and is_typed_key(value):
        return {"key": np.asarray(jax.random.key_data(value)).tolist()}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return {"partial": [describe(part) for part in parts]}
    name = getattr(value, "__qualname__", type(value).__qualname__)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f.name for f in dataclasses.fields(value) if f.init)
        return {"class": name} | {f: describe(getattr(value, f)) for f in fields}
    if "<" in name and isinstance(value, types.FunctionType):
        captured = [cell.cell_contents for cell in value.__closure__ or ()]
        return {
            "function": name,
            "code": _code(value.__code__),
            "captured": describe([*captured, *(value.__defaults__ or ())]),
        }
    return name


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


def _code(code: Any) -> list[Any]:
    """A function's bytecode, the names it uses, and its constants."""
    constants = [_code(c) if hasattr(c, "co_code") else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]
