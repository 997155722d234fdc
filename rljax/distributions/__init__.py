"""Distributions of actions, each a pytree of its parameters.

`Categorical` and `MultiCategorical` are for choices, `Normal` and `SquashedNormal` for
real numbers; `for_space` names the one that an action space needs, so that agents need
not know which it is. The `categorical_` functions are the same for logits.
"""

from rljax.distributions.base import Distribution
from rljax.distributions.categorical import (
    Categorical,
    MultiCategorical,
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    categorical_mode,
    categorical_quantile,
    categorical_sample,
    cumulative_probs,
    greedy,
    quantile,
)
from rljax.distributions.choice import for_space
from rljax.distributions.normal import Normal, SquashedNormal

__all__ = [
    "Categorical",
    "Distribution",
    "MultiCategorical",
    "Normal",
    "SquashedNormal",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "categorical_mode",
    "categorical_quantile",
    "categorical_sample",
    "cumulative_probs",
    "for_space",
    "greedy",
    "quantile",
]
