"""Builds environments by name."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

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
from rljax.types import Env


def _build(env_class: Any, fixed: dict[str, Any], **settings: Any) -> Env:
    """Builds an environment, with its time limit; `settings` override `fixed`."""
    settings = fixed | settings
    max_steps = settings.pop("max_steps", None)
    env = env_class(**settings)
    return env if max_steps is None else TimeLimit(env, max_steps)


def _entry(
    env_class: type, hidden: str = "", **fixed: Any
) -> tuple[Callable[..., Env], tuple[str, ...]]:
    """The function that builds the environment, and the parameters that it takes."""
    fields = [field.name for field in dataclasses.fields(env_class)]
    known = tuple(name for name in (*fields, "max_steps") if name != hidden)
    return functools.partial(_build, env_class, fixed), known


# The rewards are Gymnasium's. In its FrozenLake, a move goes as chosen or to one of the
# two sides, each with probability 1/3, which is a slip of 2/3.
_FROZEN_LAKE = {"step_reward": 0.0, "pit_reward": 0.0, "slip": 2 / 3}
_CLIFF_WALKING = {"step_reward": -1.0, "goal_reward": -1.0, "cliff_reward": -100.0}
_grid = functools.partial(_entry, GridWorld, "layout")

ENVS: dict[str, tuple[Callable[..., Env], tuple[str, ...]]] = {
    "CartPole-v1": _entry(CartPole, max_steps=500),
    "MountainCar-v0": _entry(MountainCar, max_steps=200),
    "MountainCarContinuous-v0": _entry(MountainCarContinuous, max_steps=999),
    "Pendulum-v1": _entry(Pendulum, max_steps=200),
    "Acrobot-v1": _entry(Acrobot, max_steps=500),
    "LQR-DoubleIntegrator": _entry(LQR, max_steps=100),
    "GridWorld-5x5": _grid(layout=gridmaps.GRID_5X5),
    "GridWorld-7x7": _grid(layout=gridmaps.GRID_7X7),
    "FrozenLake-4x4": _grid(
        layout=gridmaps.FROZEN_LAKE_4X4, max_steps=100, **_FROZEN_LAKE
    ),
    "FrozenLake-8x8": _grid(
        layout=gridmaps.FROZEN_LAKE_8X8, max_steps=200, **_FROZEN_LAKE
    ),
    "CliffWalking": _grid(layout=gridmaps.CLIFF_WALKING, **_CLIFF_WALKING),
    "Taxi-v3": _entry(Taxi, max_steps=200),
    "Blackjack-v1": _entry(Blackjack),
    "Gambler-100": _entry(Gambler, "goal", goal=100),
    "GaussianBandit-5": _entry(GaussianBandit, "num_arms", num_arms=5),
    "BernoulliBandit-5": _entry(BernoulliBandit, "num_arms", num_arms=5),
    "MinAtar/Asterix-v1": _entry(Asterix),
    "MinAtar/Breakout-v1": _entry(Breakout),
    "MinAtar/Freeway-v1": _entry(Freeway),
    "MinAtar/SpaceInvaders-v1": _entry(SpaceInvaders),
    "Catch": _entry(Catch),
    "DeepSea-10": _entry(DeepSea, size=10),
    "MemoryChain-10": _entry(MemoryChain, memory_length=10),
    "Umbrella-10": _entry(Umbrella, chain_length=10),
}
"""For each name, the function that builds the environment, and the names of the
parameters that it takes."""


def make(name: str, **kwargs: Any) -> Env:
    """Builds an environment by name.

    Args:
      name: "CartPole-v1" (500 steps at most), "MountainCar-v0" (200), "Pendulum-v1"
        (200), "GridWorld-5x5", "GridWorld-7x7", "FrozenLake-4x4" (100),
        "FrozenLake-8x8" (200), "CliffWalking", "GaussianBandit-5",
        "BernoulliBandit-5", "MinAtar/Asterix-v1", "MinAtar/Breakout-v1",
        "MinAtar/Freeway-v1" or "MinAtar/SpaceInvaders-v1". FrozenLake and CliffWalking
        have Gymnasium's dynamics and rewards, but `GridWorld`'s actions: up, down,
        left, right.
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
    build, known = ENVS[name]
    for parameter in kwargs:
        if parameter not in known:
            raise TypeError(
                f"{name} has no parameter {parameter!r}; it has {', '.join(known)}."
            )
    return build(**kwargs)
