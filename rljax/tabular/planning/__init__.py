"""Planning: values and best policies of a known MDP.

Shape letters: S states, A actions. The algorithms are jitted, and can be vmapped over
discounts and over stacked MDPs. The value of a terminal state is 0. Transitions given
as a list of outcomes (`types.SparseTransitions`) become dense only to solve equations.

The error bounds hold in exact arithmetic. If the tolerance is below the rounding errors
of the dtype, iterations stop once changes are as small as those, and `residual` tells
how close they came. Smaller tolerances need x64.

At γ = 1, values are total rewards, and a policy *rests* in a state if it gets no reward
from there on. V^π is finite where π surely ends or rests, and V* is the largest value
of the policies that do so. Where there is none, V* is −∞, or NaN if such states have
positive rewards, as nothing is known then.

Bellman's equation may then have other solutions besides V*, and not all greedy policies
attain it: FrozenLake pays only for reaching the goal, so with nothing to lose, a step
away from it is as good as one towards it. Therefore planning starts from the values of
a policy that surely ends or rests. From there values only rise, to V* or, where rewards
can be gained again and again, for ever. And of equally good actions it takes those that
surely lead on.

`riccati` and `linear_return` do the same for an `LQR`, whose states are vectors.

Source: Puterman (1994), chapters 6 and 7; Bertsekas and Yu (2016), "Stochastic Shortest
Path Problems Under Weak Conditions", MIT LIDS-2909.
"""

from rljax.tabular.planning.bellman import q_values
from rljax.tabular.planning.evaluation import (
    expected_return,
    initial_value,
    policy_evaluation,
)
from rljax.tabular.planning.improvement import (
    modified_policy_iteration,
    policy_iteration,
    value_iteration,
)
from rljax.tabular.planning.plan import Plan, check_solvable
from rljax.tabular.planning.riccati import LinearPlan, linear_return, riccati

__all__ = [
    "LinearPlan",
    "Plan",
    "check_solvable",
    "expected_return",
    "initial_value",
    "linear_return",
    "modified_policy_iteration",
    "policy_evaluation",
    "policy_iteration",
    "q_values",
    "riccati",
    "value_iteration",
]
