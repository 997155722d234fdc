"""Environments. None of them imports an agent."""

from rljax.envs import minatar
from rljax.envs.acrobot import Acrobot
from rljax.envs.bandit import BernoulliBandit, GaussianBandit
from rljax.envs.cartpole import CartPole
from rljax.envs.finite import FiniteMDP
from rljax.envs.gridworld import GridWorld
from rljax.envs.mountaincar import MountainCar, MountainCarContinuous
from rljax.envs.pendulum import Pendulum
from rljax.envs.registry import make
from rljax.envs.wrappers import FrameStack, TimeLimit

__all__ = [
    "Acrobot",
    "BernoulliBandit",
    "CartPole",
    "FiniteMDP",
    "FrameStack",
    "GaussianBandit",
    "GridWorld",
    "MountainCar",
    "MountainCarContinuous",
    "Pendulum",
    "TimeLimit",
    "make",
    "minatar",
]
