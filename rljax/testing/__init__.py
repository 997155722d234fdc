"""Checks of contracts and gradients, for anybody's code, in any test runner.

Each raises AssertionError with what is wrong and where, and returns quietly otherwise
(`check_gradients` returns what it measured). None needs a test framework.
"""

from rljax.testing.agents import check_agent
from rljax.testing.differences import Kink
from rljax.testing.environments import check_env
from rljax.testing.gradients import GradientReport, check_gradients

__all__ = [
    "GradientReport",
    "Kink",
    "check_agent",
    "check_env",
    "check_gradients",
]
