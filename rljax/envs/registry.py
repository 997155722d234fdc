"""Environments by name."""

import dataclasses
from collections.abc import Callable
from typing import Any

from rljax.envs.cartpole import CartPole
from rljax.envs.wrappers import TimeLimit
from rljax.types import Env


def cartpole_v1(max_steps: int = 500, **physics: Any) -> TimeLimit:
    """`CartPole` cut at 500 steps, as Gymnasium's CartPole-v1."""
    return TimeLimit(CartPole(**physics), max_steps)


def _fields(env_class: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(env_class))


ENVS: dict[str, tuple[Callable[..., Env], tuple[str, ...]]] = {
    "CartPole-v1": (cartpole_v1, (*_fields(CartPole), "max_steps")),
}
"""By name: what builds the environment, and the parameters that it takes."""


def make(name: str, **kwargs: Any) -> Env:
    """Builds an environment by name.

    Args:
      name: "CartPole-v1".
      **kwargs: parameters of the environment, such as gravity=5.0, or max_steps=200
        for another time limit.

    Raises:
      ValueError: unknown name; the message lists the known ones.
      TypeError: unknown parameter; likewise.
    """
    if name not in ENVS:
        raise ValueError(
            f"name must be one of {', '.join(map(repr, ENVS))}, got {name!r}."
        )
    build, known = ENVS[name]
    for parameter in kwargs:
        if parameter not in known:
            raise TypeError(
                f"{name} has no parameter {parameter!r}; it has {', '.join(known)}."
            )
    return build(**kwargs)
