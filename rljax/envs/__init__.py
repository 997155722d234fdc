"""Environments. None of them imports an agent."""

from rljax.envs.cartpole import CartPole
from rljax.envs.registry import make
from rljax.envs.wrappers import TimeLimit

__all__ = ["CartPole", "TimeLimit", "make"]
