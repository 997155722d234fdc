"""Exploration: which action to try, given what is known of each.

Each rule exists as a plain function of the estimates in one state, and as a pytree for
any tabular agent, on bandits and on MDPs. Shape letter: A actions. Everywhere

    q_values [A] floating: Q(a), estimated mean rewards or action values
    counts   [A] floating or integer: N(a), how often each action was taken here; of
             integers the sum must fit their dtype, as it does with agents' counts

and ties go to the lowest action, but for `EpsilonGreedy`, which takes any of the best.
Logarithms are natural. The methods of a rule keep
randomness apart: `draw` draws the random numbers of any number of decisions at once,
and `select` makes one decision with them. The function of the same name does both.
"""

from rljax.distributions import greedy
from rljax.tabular.exploration.functions import (
    bernoulli_kl,
    bernoulli_kl_upper_bound,
    gradient_bandit_update,
    kl_ucb,
    ucb,
    ucb1,
)
from rljax.tabular.exploration.rules import (
    KLUCB,
    UCB,
    UCB1,
    EpsilonGreedy,
    Exploration,
    Softmax,
    epsilon_greedy,
    softmax,
)
from rljax.tabular.exploration.thompson import (
    ThompsonBernoulli,
    ThompsonGaussian,
    are_unit_means,
    assumes_unit_means,
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
    "are_unit_means",
    "assumes_unit_means",
    "bernoulli_kl",
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
