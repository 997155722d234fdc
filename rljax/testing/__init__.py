"""Checks of the two contracts and of gradients, for users' own code.

Each raises an AssertionError that says what is wrong and where. Otherwise it returns
None, or what it measured (`check_gradients`). No test framework is needed.
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
