"""Environments. None of them imports an agent."""

from rljax.envs import minatar
from rljax.envs.acrobot import Acrobot
from rljax.envs.bandit import BernoulliBandit, GaussianBandit
from rljax.envs.blackjack import Blackjack
from rljax.envs.cartpole import CartPole
from rljax.envs.catch import Catch
from rljax.envs.deepsea import DeepSea
from rljax.envs.finite import FiniteMDP
from rljax.envs.gambler import Gambler
from rljax.envs.gridworld import GridWorld
from rljax.envs.lqr import LQR
from rljax.envs.memorychain import MemoryChain
from rljax.envs.mountaincar import MountainCar, MountainCarContinuous
from rljax.envs.pendulum import Pendulum
from rljax.envs.registry import make, table
from rljax.envs.taxi import Taxi
from rljax.envs.umbrella import Umbrella
from rljax.envs.wrappers import FrameStack, TimeLimit

__all__ = [
    "LQR",
    "Acrobot",
    "BernoulliBandit",
    "Blackjack",
    "CartPole",
    "Catch",
    "DeepSea",
    "FiniteMDP",
    "FrameStack",
    "Gambler",
    "GaussianBandit",
    "GridWorld",
    "MemoryChain",
    "MountainCar",
    "MountainCarContinuous",
    "Pendulum",
    "Taxi",
    "TimeLimit",
    "Umbrella",
    "make",
    "minatar",
    "table",
]
