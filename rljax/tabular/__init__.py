"""Tabular reinforcement learning: finitely many states and actions, exact answers.

`exploration` has rules that choose actions, the agents learn tables of values, and
`planning` computes the best policy from a known model. `regret` and `bandits` measure
by how much an agent falls short of it.
"""

from rljax.tabular import bandits, exploration, planning, regret
from rljax.tabular.agent import TabularAgent, TabularState
from rljax.tabular.dyna import DynaQ
from rljax.tabular.gradient_bandit import GradientBandit
from rljax.tabular.q_learning import DoubleQLearning, ExpectedSarsa, QLearning
from rljax.tabular.sarsa import Sarsa

__all__ = [
    "DoubleQLearning",
    "DynaQ",
    "ExpectedSarsa",
    "GradientBandit",
    "QLearning",
    "Sarsa",
    "TabularAgent",
    "TabularState",
    "bandits",
    "exploration",
    "planning",
    "regret",
]
