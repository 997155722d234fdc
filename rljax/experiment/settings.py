"""Settings of a sweep: which fields of agents and environments to change, to what.

A setting is a dictionary from a field's name to its value. "learning_rate" is a field
of the agent, "env.gravity" a field of the environment, even one inside of wrappers, and
"exploration.epsilon" a field of a field. The names "agent" and "env" on their own
choose one of several named alternatives.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rljax import checks, contract
from rljax.experiment.fingerprint import digest, import_name
from rljax.types import Agent, EnvLike

_LONGEST = 60
"""Longest text of an object, in characters, that a label shows in full."""


class Expansion(NamedTuple):
    """What `expand` returns."""

    axes: dict[str, tuple[Any, ...]]
    """Values by name; the last name varies fastest. For a list of settings there is one
    axis, "setting", with their labels."""
    settings: tuple[dict[str, Any], ...]
    """All settings, in the order of the axes."""
    built: tuple[tuple[Agent, EnvLike], ...]
    """Agent and environment of each setting."""


def expand(
    agent: Agent | Mapping[str, Agent],
    env: EnvLike | Mapping[str, EnvLike],
    settings: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | None = None,
) -> Expansion:
    """Builds the agent and environment of every setting.

    Args:
      agent: one agent; or alternatives by name, which then are the first axis, "agent".
      env: one environment; or alternatives by name, which then are an axis "env".
      settings: a grid, values by name, of which every combination is built; or a list
        of settings, each with values of its own. If there are several alternatives,
        each setting of a list must name its "agent" or "env".

    Raises:
      TypeError, ValueError: a name or a value does not fit, or a setting occurs twice;
        the message says which.
    """
    agents = _alternatives("agent", agent)
    envs = _alternatives("env", env)
    for choice in agents.values():
        contract.require_agent(choice)
    for choice in envs.values():
        contract.require_env(choice)
    if settings is None:
        settings = {}
    if isinstance(settings, Mapping):
        _check_names(settings)
        grid = {name: _values(name, values) for name, values in settings.items()}
        for name, table in (("env", envs), ("agent", agents)):
            if "" not in table and name not in grid:
                grid = {name: tuple(table), **grid}
        combinations = itertools.product(*grid.values())
        expanded = tuple(
            dict(zip(grid, values, strict=True)) for values in combinations
        )
        axes = grid
    else:
        expanded = tuple(dict(setting) for setting in _listed(settings))
        axes = {"setting": tuple(label(setting) for setting in expanded)}
    seen = set()
    for name in map(label, expanded):
        if name in seen:
            raise ValueError(f"settings must differ, got {name!r} twice.")
        seen.add(name)
    built = tuple(
        (
            _replaced("agent", _chosen("agent", agents, setting), setting),
            _replaced("env", _chosen("env", envs, setting), setting),
        )
        for setting in expanded
    )
    return Expansion(axes, expanded, built)


def label(setting: Mapping[str, Any]) -> str:
    """The setting in one line: "learning_rate=0.001, env.gravity=9.8"."""
    checks.instance("setting", setting, Mapping, "{'learning_rate': 1e-3}")
    return ", ".join(f"{k}={text(v)}" for k, v in setting.items()) or "default"


def text(value: Any) -> str:
    """A setting's value as text: plain values as they are, functions by their name.

    All else, such as lambdas, closures, arrays and long objects, gets a digest, which
    tells it apart.
    """
    shape = getattr(value, "shape", None)
    if shape:
        return f"array{list(shape)}#{digest(value)}"
    if shape == ():
        return str(value.item())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        whole = repr(value)
        if len(whole) <= _LONGEST and "\n" not in whole and " at 0x" not in whole:
            return whole
    elif _is_plain(value):
        return str(value)
    name = getattr(value, "__qualname__", type(value).__qualname__)
    if import_name(value) is not None:
        return name
    try:
        return f"{name}#{digest(value)}"
    except TypeError:  # it holds a lock, for example
        return name


def _is_plain(value: Any) -> bool:
    """Whether `value` consists of numbers, strings and containers in a fixed order."""
    if isinstance(value, tuple | list | dict):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, bool | int | float | str)


def _alternatives(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {"": value}
    if not value or not all(isinstance(key, str) and key for key in value):
        raise ValueError(
            f"{name} must be one or a dictionary of at least one, by name, got the "
            f"names {list(value)!r}."
        )
    return dict(value)


def _values(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(
            f"settings[{name!r}] must be a sequence of values, got {values!r}. For one "
            f"value, pass [{values!r}]."
        )
    # An array's elements become Python numbers, so that they print and compare as such.
    values = tuple(v.item() if getattr(v, "shape", None) == () else v for v in values)
    if not values:
        raise ValueError(f"settings[{name!r}] must hold at least one value, got none.")
    return values


def _listed(settings: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(settings, str) or not isinstance(settings, Sequence):
        raise TypeError(
            "settings must be a dictionary of values by name or a list of such "
            f"dictionaries with one value each, got {settings!r}."
        )
    if not settings:
        raise ValueError("settings must hold at least one setting, got an empty list.")
    for setting in settings:
        if not isinstance(setting, Mapping):
            raise TypeError(f"each setting must be a dictionary, got {setting!r}.")
        _check_names(setting)
    return settings


def _check_names(setting: Mapping[str, Any]) -> None:
    for name in setting:
        if not isinstance(name, str):
            raise TypeError(
                "the names in settings must be strings such as 'learning_rate' or "
                f"'env.gravity', got {name!r}."
            )


def _chosen(name: str, table: dict[str, Any], setting: Mapping[str, Any]) -> Any:
    """The alternative that a setting names."""
    if name not in setting:
        if len(table) == 1:
            return next(iter(table.values()))
        raise ValueError(
            f"setting {label(setting)!r} must name its {name!r}, one of "
            f"{', '.join(map(repr, table))}."
        )
    choice = setting[name]
    if "" in table or not isinstance(choice, str) or choice not in table:
        known = "there are none" if "" in table else ", ".join(map(repr, table))
        raise ValueError(
            f"{name} must be the name of an alternative, given to the sweep as {name}="
            f"{{name: …}} ({known}), got {choice!r}."
        )
    return table[choice]


def _replaced(part: str, value: Any, setting: Mapping[str, Any]) -> Any:
    """`value`, the agent or the environment, with the values that the setting gives."""
    changes = {}
    for name, new in setting.items():
        path = tuple(name.split("."))
        if name not in ("agent", "env") and (path[0] == "env") == (part == "env"):
            changes[path[part == "env" :]] = (name, new)
    return _replace(value, changes) if changes else value


def _replace(value: Any, changes: Mapping[tuple[str, ...], tuple[str, Any]]) -> Any:
    """Replaces fields by path; each new value comes with its name, for messages."""
    fields = _field_names(value)
    direct: dict[str, Any] = {}
    inner: dict[str, dict[tuple[str, ...], tuple[str, Any]]] = {}
    for path, (name, new) in changes.items():
        if path[0] in fields and len(path) == 1:
            direct[path[0]] = new
        elif path[0] in fields:
            inner.setdefault(path[0], {})[path[1:]] = (name, new)
        elif "env" in fields:  # a wrapper
            inner.setdefault("env", {})[path] = (name, new)
        else:
            raise ValueError(
                f"settings: {type(value).__name__} has no field for {name!r}; it has "
                f"{', '.join(fields) or 'none'}. Names of the environment's fields "
                'begin with "env."; where agents differ in their fields, pass a list '
                "of settings."
            )
    for field, changed in inner.items():
        direct[field] = _replace(direct.get(field, getattr(value, field)), changed)
    # All at once, so that fields which must fit one another are checked together.
    return dataclasses.replace(value, **direct)


def _field_names(value: Any) -> tuple[str, ...]:
    if not dataclasses.is_dataclass(value):
        return ()
    return tuple(field.name for field in dataclasses.fields(value) if field.init)
