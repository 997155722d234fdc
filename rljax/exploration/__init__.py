"""Exploration: which action to try, given what is known of each.

Plain functions of one state's estimates, and the same rules as pytrees that plug into
any tabular agent, on a bandit as on an MDP. Shape letter: A actions. Everywhere

    q_values [A] floating: Q(a), estimated mean rewards or action values
    counts   [A] floating or integer: N(a), how often each action was taken here

and ties go to the lowest action. Logarithms are natural. A rule is a function of its
estimates and of random words drawn beforehand: `draw` makes the words of any number of
decisions at once, `select` decides. The function of the same name does both.
"""

from rljax.exploration.functions import (
    bernoulli_kl_upper_bound,
    gradient_bandit_update,
    greedy,
    kl_ucb,
    ucb,
    ucb1,
)
from rljax.exploration.rules import (
    KLUCB,
    UCB,
    UCB1,
    EpsilonGreedy,
    Exploration,
    Softmax,
    epsilon_greedy,
    softmax,
)
from rljax.exploration.thompson import (
    ThompsonBernoulli,
    ThompsonGaussian,
    thompson_bernoulli,
    thompson_gaussian,
)

__all__ = [
    "KLUCB",
    "UCB",
    "UCB1",
    "EpsilonGreedy",
    "Exploration",
    "Softmax",
    "ThompsonBernoulli",
    "ThompsonGaussian",
    "bernoulli_kl_upper_bound",
    "epsilon_greedy",
    "gradient_bandit_update",
    "greedy",
    "kl_ucb",
    "softmax",
    "thompson_bernoulli",
    "thompson_gaussian",
    "ucb",
    "ucb1",
]
