"""Tabular reinforcement learning: finitely many states and actions, exact answers.

`exploration` has rules that choose actions, the agents learn tables of values, and
`planning` computes the best policy from a known model. `regret` and `bandits` measure
by how much an agent falls short of it, and `prediction` learns the values of a policy
that is only watched. Where states are infinitely many, `TileCoding` lays cells over
them, and `LinearSarsa` learns a number for each cell.
"""

from rljax.tabular import bandits, exploration, planning, prediction, regret
from rljax.tabular.agent import TabularAgent, TabularState
from rljax.tabular.dyna import DynaQ
from rljax.tabular.gradient_bandit import GradientBandit
from rljax.tabular.linear import LinearSarsa
from rljax.tabular.q_learning import DoubleQLearning, ExpectedSarsa, QLearning
from rljax.tabular.sarsa import Sarsa
from rljax.tabular.tiles import TileCoding

__all__ = [
    "DoubleQLearning",
    "DynaQ",
    "ExpectedSarsa",
    "GradientBandit",
    "LinearSarsa",
    "QLearning",
    "Sarsa",
    "TabularAgent",
    "TabularState",
    "TileCoding",
    "bandits",
    "exploration",
    "planning",
    "prediction",
    "regret",
]
