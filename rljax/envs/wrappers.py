"""Environments around environments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import spaces, struct
from rljax.types import (
    MDP,
    Env,
    TimeStep,
    advance,
    check_env,
    check_reset,
    check_step,
    draw_noise,
)


class TimeLimitState(NamedTuple):
    """The state inside and a clock."""

    env_state: Any
    """The wrapped environment's state."""
    time: jax.Array
    """[] int32: steps since the reset."""


@struct.dataclass
class TimeLimit:
    """Truncates an episode at its `max_steps`-th step.

    A step may be terminated and truncated at once; the value of its successor is 0
    then. The number of steps left is not part of the observation. To differentiate with
    respect to physics, take them as the argument and build the environment from them:
    `max_steps` is an integer leaf, which jax.grad refuses.
    """

    env: Env
    """The environment inside."""
    max_steps: int = 500
    """Steps per episode, 1 or more; a leaf, so limits can be swept."""

    def __post_init__(self):
        check_env(self.env)
        max_steps = self.max_steps
        if isinstance(max_steps, Tracer):
            return
        if isinstance(max_steps, jax.Array | np.ndarray):
            if (
                max_steps.dtype.kind not in "iu"
                or not (np.asarray(max_steps) > 0).all()
                or not (np.asarray(max_steps) <= struct.LARGEST_INT).all()
            ):
                raise ValueError(
                    "TimeLimit.max_steps must be integers of at least 1 and at most "
                    f"{struct.LARGEST_INT}, got {max_steps!r}."
                )
            return
        max_steps = struct.check_int(
            "TimeLimit.max_steps", max_steps, minimum=1, maximum=struct.LARGEST_INT
        )
        object.__setattr__(self, "max_steps", max_steps)

    @property
    def observation_space(self) -> spaces.Space:
        """That of the environment inside."""
        return self.env.observation_space

    @property
    def action_space(self) -> spaces.Space:
        """That of the environment inside."""
        return self.env.action_space

    def reset(self, key: jax.Array) -> tuple[TimeLimitState, Any]:
        """Resets the environment inside and the clock."""
        struct.check_scalars(self, "max_steps")
        env_state, obs = check_reset(self.env, self.env.reset(key))
        return TimeLimitState(env_state, jnp.zeros((), jnp.int32)), obs

    def step(
        self, state: TimeLimitState, action: Any, key: jax.Array
    ) -> tuple[TimeLimitState, TimeStep]:
        """Steps the environment inside and adds `truncated` when time is up."""
        returned = self.env.step(state.env_state, action, key)
        return self._tick(state, check_step(self.env, returned))

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The randomness of steps inside, leaves [*shape, …]."""
        return draw_noise(self.env, shape, key)

    def advance(
        self, state: TimeLimitState, action: Any, noise: Any
    ) -> tuple[TimeLimitState, TimeStep]:
        """`step` with noise drawn before."""
        return self._tick(state, advance(self.env, state.env_state, action, noise))

    def _tick(
        self, state: TimeLimitState, step: tuple[Any, TimeStep]
    ) -> tuple[TimeLimitState, TimeStep]:
        env_state, time_step = step
        time = state.time + 1
        truncated = time_step.truncated | (time >= self.max_steps)
        return TimeLimitState(env_state, time), time_step._replace(truncated=truncated)

    def to_mdp(self, **kwargs: Any) -> MDP:
        """That of the environment inside: a limit cuts episodes, it is not in the MDP.

        Raises:
          TypeError: the environment inside has no to_mdp.
        """
        if not hasattr(self.env, "to_mdp"):
            raise TypeError(
                f"{type(self.env).__name__} can't enumerate itself: it has no to_mdp."
            )
        return self.env.to_mdp(**kwargs)  # pyright: ignore[reportAttributeAccessIssue]
