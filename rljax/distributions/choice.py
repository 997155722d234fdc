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
      squash: whether the normal one of a Box with finite bounds is squashed into it;
        else its draws are clipped. Bounds that are traced count as finite.

    Returns:
      `Categorical` for a Discrete space, `MultiCategorical` for a MultiDiscrete one,
      `SquashedNormal` or `Normal` for a floating Box.

    Raises:
      TypeError: any other space.
      ValueError: the Box is bounded on one side alone, or in some numbers alone.
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
    box = {"low": space.low, "high": space.high, "shape": space.shape}
    is_finite = [
        True if isinstance(bound, Tracer) else np.isfinite(bound)
        for bound in (space.low, space.high)
    ]
    if squash and all(np.all(finite) for finite in is_finite):
        return SquashedNormal(**box)
    if squash and any(np.any(finite) for finite in is_finite):
        raise ValueError(
            f"{who}'s policy is squashed between bounds, but some of those of "
            f"env.action_space = {space} are infinite. Give all of them, or none, or "
            "take squash=False, which clips."
        )
    return Normal(**box)
