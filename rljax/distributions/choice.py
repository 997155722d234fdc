"""Which distribution an action space needs."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import spaces
from rljax.distributions.base import Distribution
from rljax.distributions.categorical import Categorical, MultiCategorical
from rljax.distributions.normal import Normal, SquashedNormal


def for_space(space: Any, who: str, *, squash: bool = True) -> Distribution:
    """The kind of distribution for the actions of a space, without parameters.

    Args:
      space: of actions.
      who: the agent that asks, for the message.
      squash: whether the normal one of a Box is squashed between finite bounds; else
        its draws are clipped.

    Returns:
      `Categorical` for a Discrete space, `MultiCategorical` for a MultiDiscrete one,
      `SquashedNormal` or `Normal` for a floating Box.

    Raises:
      TypeError: any other space.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(num_actions=space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(sizes=space.sizes)
    if not isinstance(space, spaces.Box) or not jnp.issubdtype(
        space.dtype, jnp.floating
    ):
        raise TypeError(
            f"{who} has a policy for actions of a Discrete, a MultiDiscrete or a "
            f"floating Box space, but env.action_space is {space}."
        )
    bounds = space.low, space.high
    # Traced ones may be finite, and SquashedNormal looks again.
    known = not any(isinstance(bound, Tracer) for bound in bounds)
    low, high = (jnp.asarray(bound, float) for bound in bounds)
    if not squash or (known and not _any_finite(*bounds)):
        return Normal(low=low, high=high, shape=space.shape)
    return SquashedNormal(low=low, high=high, shape=space.shape)


def _any_finite(low: Any, high: Any) -> bool:
    """Whether a number lies between two finite bounds; in NumPy, also under jit."""
    return bool(np.any(np.isfinite(low) & np.isfinite(high)))
