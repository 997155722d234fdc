"""Builds environments by name."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from rljax.envs import gridmaps
from rljax.envs.acrobot import Acrobot
from rljax.envs.bandit import BernoulliBandit, GaussianBandit
from rljax.envs.blackjack import Blackjack
from rljax.envs.cartpole import CartPole
from rljax.envs.catch import Catch
from rljax.envs.deepsea import DeepSea
from rljax.envs.gambler import Gambler
from rljax.envs.gridworld import GridWorld
from rljax.envs.lqr import LQR
from rljax.envs.memorychain import MemoryChain
from rljax.envs.minatar import Asterix, Breakout, Freeway, SpaceInvaders
from rljax.envs.mountaincar import MountainCar, MountainCarContinuous
from rljax.envs.pendulum import Pendulum
from rljax.envs.taxi import Taxi
from rljax.envs.umbrella import Umbrella
from rljax.envs.wrappers import TimeLimit
from rljax.spaces import Box
from rljax.types import Env


def _build(env_class: Any, fixed: dict[str, Any], **settings: Any) -> Env:
    """Builds an environment, with its time limit; `settings` override `fixed`."""
    settings = fixed | settings
    max_steps = settings.pop("max_steps", None)
    env = env_class(**settings)
    return env if max_steps is None else TimeLimit(env, max_steps)


class Entry(NamedTuple):
    """An environment that has a name."""

    build: Callable[..., Env]
    """Builds it."""
    parameters: tuple[str, ...]
    """What `build` takes, by name."""
    source: str
    """Whose rules it keeps."""


def _entry(env_class: type, source: str, hidden: str = "", **fixed: Any) -> Entry:
    """Of a class with some of its fields fixed, and one of them hidden."""
    fields = [field.name for field in dataclasses.fields(env_class)]
    known = tuple(name for name in (*fields, "max_steps") if name != hidden)
    return Entry(functools.partial(_build, env_class, fixed), known, source)


# The rewards are Gymnasium's. In its FrozenLake, a move goes as chosen or to one of the
# two sides, each with probability 1/3, which is a slip of 2/3.
_FROZEN_LAKE: dict[str, Any] = {"step_reward": 0.0, "pit_reward": 0.0, "slip": 2 / 3}
_CLIFF_WALKING: dict[str, Any] = {
    "step_reward": -1.0,
    "goal_reward": -1.0,
    "cliff_reward": -100.0,
}
_grid = functools.partial(_entry, GridWorld, hidden="layout")

ENVS: dict[str, Entry] = {
    "CartPole-v1": _entry(CartPole, "Gymnasium", max_steps=500),
    "MountainCar-v0": _entry(MountainCar, "Gymnasium", max_steps=200),
    "MountainCarContinuous-v0": _entry(
        MountainCarContinuous, "Gymnasium", max_steps=999
    ),
    "Pendulum-v1": _entry(Pendulum, "Gymnasium", max_steps=200),
    "Acrobot-v1": _entry(Acrobot, "Gymnasium", max_steps=500),
    "LQR-DoubleIntegrator": _entry(LQR, "rljax", max_steps=100),
    "GridWorld-5x5": _grid("rljax", layout=gridmaps.GRID_5X5),
    "GridWorld-7x7": _grid("rljax", layout=gridmaps.GRID_7X7),
    "FrozenLake-4x4": _grid(
        "Gymnasium", layout=gridmaps.FROZEN_LAKE_4X4, max_steps=100, **_FROZEN_LAKE
    ),
    "FrozenLake-8x8": _grid(
        "Gymnasium", layout=gridmaps.FROZEN_LAKE_8X8, max_steps=200, **_FROZEN_LAKE
    ),
    "CliffWalking": _grid("Gymnasium", layout=gridmaps.CLIFF_WALKING, **_CLIFF_WALKING),
    "Taxi-v3": _entry(Taxi, "Gymnasium", max_steps=200),
    "Blackjack-v1": _entry(Blackjack, "Gymnasium"),
    "Gambler-100": _entry(Gambler, "Sutton & Barto", "goal", goal=100),
    "GaussianBandit-5": _entry(GaussianBandit, "rljax", "num_arms", num_arms=5),
    "BernoulliBandit-5": _entry(BernoulliBandit, "rljax", "num_arms", num_arms=5),
    "MinAtar/Asterix-v1": _entry(Asterix, "MinAtar"),
    "MinAtar/Breakout-v1": _entry(Breakout, "MinAtar"),
    "MinAtar/Freeway-v1": _entry(Freeway, "MinAtar"),
    "MinAtar/SpaceInvaders-v1": _entry(SpaceInvaders, "MinAtar"),
    "Catch": _entry(Catch, "bsuite"),
    "DeepSea-10": _entry(DeepSea, "bsuite", size=10),
    "MemoryChain-10": _entry(MemoryChain, "bsuite", memory_length=10),
    "Umbrella-10": _entry(Umbrella, "bsuite", chain_length=10),
}
"""All of them, by name."""


def make(name: str, **kwargs: Any) -> Env:
    """Builds an environment by name, one of these:

        name                      observations     actions         steps  rules of
        CartPole-v1               Box(4,)          Discrete(n=2)   500    Gymnasium
        MountainCar-v0            Box(2,)          Discrete(n=3)   200    Gymnasium
        MountainCarContinuous-v0  Box(2,)          Box(1,)         999    Gymnasium
        Pendulum-v1               Box(3,)          Box(1,)         200    Gymnasium
        Acrobot-v1                Box(6,)          Discrete(n=3)   500    Gymnasium
        LQR-DoubleIntegrator      Box(2,)          Box(1,)         100    rljax
        GridWorld-5x5             Discrete(n=25)   Discrete(n=4)   –      rljax
        GridWorld-7x7             Discrete(n=49)   Discrete(n=4)   –      rljax
        FrozenLake-4x4            Discrete(n=16)   Discrete(n=4)   100    Gymnasium
        FrozenLake-8x8            Discrete(n=64)   Discrete(n=4)   200    Gymnasium
        CliffWalking              Discrete(n=48)   Discrete(n=4)   –      Gymnasium
        Taxi-v3                   Discrete(n=500)  Discrete(n=6)   200    Gymnasium
        Blackjack-v1              Discrete(n=293)  Discrete(n=2)   –      Gymnasium
        Gambler-100               Discrete(n=101)  Discrete(n=50)  –      Sutton & Barto
        GaussianBandit-5          Discrete(n=1)    Discrete(n=5)   –      rljax
        BernoulliBandit-5         Discrete(n=1)    Discrete(n=5)   –      rljax
        MinAtar/Asterix-v1        Box(10, 10, 4)   Discrete(n=5)   –      MinAtar
        MinAtar/Breakout-v1       Box(10, 10, 4)   Discrete(n=3)   –      MinAtar
        MinAtar/Freeway-v1        Box(10, 10, 7)   Discrete(n=3)   –      MinAtar
        MinAtar/SpaceInvaders-v1  Box(10, 10, 6)   Discrete(n=4)   –      MinAtar
        Catch                     Box(10, 5)       Discrete(n=3)   –      bsuite
        DeepSea-10                Discrete(n=101)  Discrete(n=2)   –      bsuite
        MemoryChain-10            Box(1, 3)        Discrete(n=2)   –      bsuite
        Umbrella-10               Box(1, 23)       Discrete(n=2)   –      bsuite

    FrozenLake and CliffWalking have Gymnasium's dynamics and rewards, but `GridWorld`'s
    actions: up, down, left, right. `rljax.envs.table()` is this table.

    Args:
      name: one of the table.
      **kwargs: parameters of the environment, such as gravity=5.0 or slip=None, or
        max_steps=200 for another time limit, or max_steps=None for no limit.

    Raises:
      ValueError: the name is unknown; the message lists the known ones.
      TypeError: a parameter is unknown; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in ENVS:
        raise ValueError(
            f"name must be one of {', '.join(map(repr, ENVS))}, got {name!r}."
        )
    entry = ENVS[name]
    for parameter in kwargs:
        if parameter not in entry.parameters:
            raise TypeError(
                f"{name} has no parameter {parameter!r}; it has "
                f"{', '.join(entry.parameters)}."
            )
    return entry.build(**kwargs)


def table() -> str:
    """The environments that have a name: spaces, steps to the limit, whose rules."""
    rows = [("name", "observations", "actions", "steps", "rules of")]
    for name, entry in ENVS.items():
        env = entry.build()
        limit = env.max_steps if isinstance(env, TimeLimit) else "–"
        spaces = _in_words(env.observation_space), _in_words(env.action_space)
        rows.append((name, *spaces, str(limit), entry.source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _in_words(space: Any) -> str:
    """Discrete(4), or Box and its shape: whatever the bounds."""
    return f"Box{space.shape}" if isinstance(space, Box) else str(space)
