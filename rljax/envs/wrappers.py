"""Environments that wrap another environment."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, contract, spaces, struct
from rljax.types import MDP, Env, EnvLike, TimeStep


class TimeLimitState(NamedTuple):
    """The wrapped environment's state and a step counter."""

    env_state: Any
    """The wrapped environment's state."""
    time: jax.Array
    """[] int32: steps since the reset."""


@struct.dataclass
class TimeLimit(Env):
    """Truncates an episode at its `max_steps`-th step.

    A step may be both terminated and truncated; the value of its successor is then 0.
    The number of steps left is not part of the observation. jax.grad refuses this
    environment as an argument, as `max_steps` is an integer leaf: to differentiate,
    take the physical parameters as the argument and build the environment from them.
    """

    env: EnvLike
    """The wrapped environment."""
    max_steps: int = 500
    """Steps per episode, 1 or more; a leaf, so limits can be swept."""

    def __post_init__(self):
        contract.require_env(self.env)
        max_steps = self.max_steps
        if isinstance(max_steps, Tracer):
            return
        if isinstance(max_steps, jax.Array | np.ndarray):
            if (
                max_steps.dtype.kind not in "iu"
                or not (np.asarray(max_steps) > 0).all()
                or not (np.asarray(max_steps) <= checks.LARGEST_INT).all()
            ):
                raise ValueError(
                    "TimeLimit.max_steps must be integers of at least 1 and at most "
                    f"{checks.LARGEST_INT}, got {max_steps!r}."
                )
            return
        max_steps = checks.integer(
            "TimeLimit.max_steps", max_steps, minimum=1, maximum=checks.LARGEST_INT
        )
        object.__setattr__(self, "max_steps", max_steps)

    @property
    def observation_space(self) -> Any:
        """That of the wrapped environment."""
        return self.env.observation_space

    @property
    def action_space(self) -> spaces.Space:
        """That of the wrapped environment."""
        return self.env.action_space

    def reset(self, key: jax.Array) -> tuple[TimeLimitState, Any]:
        """Resets the wrapped environment and the step counter."""
        checks.scalars(self, "max_steps")
        env_state, obs = contract.reset(self.env, key)
        return TimeLimitState(env_state, jnp.zeros((), jnp.int32)), obs

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The randomness of the wrapped environment's steps, leaves [*shape, …]."""
        return contract.draw_noise(self.env, shape, key)

    def advance(
        self, state: TimeLimitState, action: Any, noise: Any
    ) -> tuple[TimeLimitState, TimeStep]:
        """Steps the wrapped environment and sets `truncated` when time is up."""
        env_state, time_step = contract.advance(
            self.env, state.env_state, action, noise
        )
        time = state.time + 1
        truncated = time_step.truncated | (time >= self.max_steps)
        return TimeLimitState(env_state, time), time_step._replace(truncated=truncated)

    def to_mdp(self, **kwargs: Any) -> MDP:
        """The model of the wrapped environment; the MDP does not include the limit.

        Raises:
          TypeError: the wrapped environment cannot enumerate itself.
        """
        if isinstance(self.env, Env):
            return self.env.to_mdp(**kwargs)
        return Env.to_mdp(self.env, **kwargs)  # pyright: ignore[reportArgumentType]

    def render(self, state: TimeLimitState, *, size: int = 400) -> np.ndarray:
        """The picture of the wrapped environment, [H, W, 3] uint8.

        Raises:
          TypeError: the wrapped environment has none.
        """
        checks.instance("state", state, TimeLimitState, "env.reset(key)[0]")
        return contract.render(self.env, state.env_state, size=size)
