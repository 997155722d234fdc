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


def unlimited(env: Any) -> Any:
    """The environment without the time limits around it."""
    while isinstance(env, TimeLimit):
        env = env.env
    return env


class FrameStackState(NamedTuple):
    """The wrapped environment's state and its last observations."""

    env_state: Any
    """The wrapped environment's state."""
    frames: jax.Array
    """[num_frames, …], oldest first."""


@struct.dataclass
class FrameStack(Env):
    """Shows the last `num_frames` observations, so that motion can be seen.

    The observation is [num_frames, …], oldest first; before there are as many, that of
    the reset stands in for those that are missing. With `as_channels` the frames are
    joined along the last axis instead, [H, W, C · num_frames] for images [H, W, C], as
    `networks.CNN` reads them. A rollout keeps every observation whole, so it takes
    `num_frames` times the memory.

    Raises:
      TypeError, ValueError: a field has the wrong type, the observations are not of a
        Box, or have no axis along which to join them.

    Source: Mnih et al. (2015), Human-level control through deep reinforcement learning;
      what stands in at first is as in Gymnasium's FrameStackObservation.
    """

    env: EnvLike
    """The wrapped environment, whose observations are those of a Box."""
    num_frames: int = struct.static(default=4)
    """How many observations are shown."""
    as_channels: bool = struct.static(default=False)
    """Whether they are joined along the last axis, not along a new first one."""

    def __post_init__(self):
        contract.require_env(self.env)
        checks.ints(self, "num_frames", minimum=1)
        checks.bools(self, "as_channels")
        space, who = self.env.observation_space, type(self.env).__name__
        if not isinstance(space, spaces.Box):
            raise TypeError(
                "FrameStack.env must have observations of a Box, such as images, those "
                f"of {who} are of {space}. Stack a part of them in {who} itself."
            )
        if self.as_channels and not space.shape:
            raise ValueError(
                "FrameStack.as_channels joins observations along their last axis, but "
                f"those of {who} have none. Leave it False."
            )

    @property
    def observation_space(self) -> spaces.Box:
        """The wrapped environment's Box, `num_frames` times."""
        space: Any = self.env.observation_space
        low, high, shape = space.low, space.high, (self.num_frames, *space.shape)
        if self.as_channels:
            *first, channels = space.shape
            shape = (*first, channels * self.num_frames)
            low, high = self._repeated(low, space), self._repeated(high, space)
        return spaces.Box(low, high, shape, space.dtype)

    @property
    def action_space(self) -> spaces.Space:
        """That of the wrapped environment."""
        return self.env.action_space

    def reset(self, key: jax.Array) -> tuple[FrameStackState, jax.Array]:
        """Resets the wrapped environment; all frames are its first observation."""
        env_state, obs = contract.reset(self.env, key)
        frames = jnp.broadcast_to(obs, (self.num_frames, *obs.shape))
        return FrameStackState(env_state, frames), self._shown(frames)

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The randomness of the wrapped environment's steps, leaves [*shape, …]."""
        return contract.draw_noise(self.env, shape, key)

    def advance(
        self, state: FrameStackState, action: Any, noise: Any
    ) -> tuple[FrameStackState, TimeStep]:
        """Steps the wrapped environment and shows its observation as the last one."""
        env_state, time_step = contract.advance(
            self.env, state.env_state, action, noise
        )
        frames = jnp.concatenate([state.frames[1:], time_step.obs[None]])
        time_step = time_step._replace(obs=self._shown(frames))
        return FrameStackState(env_state, frames), time_step

    def render(self, state: FrameStackState, *, size: int = 400) -> np.ndarray:
        """The picture of the wrapped environment, [H, W, 3] uint8.

        Raises:
          TypeError: the wrapped environment has none.
        """
        checks.instance("state", state, FrameStackState, "env.reset(key)[0]")
        return contract.render(self.env, state.env_state, size=size)

    def _shown(self, frames: jax.Array) -> jax.Array:
        """Frames [num_frames, …] as they are observed."""
        if not self.as_channels:
            return frames
        frames = jnp.moveaxis(frames, 0, -2)  # beside the channels
        return frames.reshape(*frames.shape[:-2], -1)

    def _repeated(self, bound: Any, space: spaces.Box) -> Any:
        """A bound of each number, once for each frame; a number stays one."""
        if np.ndim(bound) == 0:
            return bound
        library = spaces.numpy_for(bound)
        return library.tile(library.broadcast_to(bound, space.shape), self.num_frames)
