"""Environments. None of them imports an agent."""

from rljax.envs import minatar
from rljax.envs.acrobot import Acrobot
from rljax.envs.bandit import BernoulliBandit, GaussianBandit
from rljax.envs.blackjack import Blackjack
from rljax.envs.cartpole import CartPole
from rljax.envs.finite import FiniteMDP
from rljax.envs.gambler import Gambler
from rljax.envs.gridworld import GridWorld
from rljax.envs.lqr import LQR
from rljax.envs.mountaincar import MountainCar, MountainCarContinuous
from rljax.envs.pendulum import Pendulum
from rljax.envs.registry import make
from rljax.envs.taxi import Taxi
from rljax.envs.wrappers import FrameStack, TimeLimit

__all__ = [
    "LQR",
    "Acrobot",
    "BernoulliBandit",
    "Blackjack",
    "CartPole",
    "FiniteMDP",
    "FrameStack",
    "Gambler",
    "GaussianBandit",
    "GridWorld",
    "MountainCar",
    "MountainCarContinuous",
    "Pendulum",
    "Taxi",
    "TimeLimit",
    "make",
    "minatar",
]
