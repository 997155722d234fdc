"""Environments of Brax, and of MuJoCo Playground, as ours."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from rljax import spaces, struct
from rljax.adapters import foreign
from rljax.types import Env, TimeStep

_UNWANTED = ("VmapWrapper", "AutoResetWrapper")
"""How Brax's and Playground's classes for batches and automatic resets end."""


@runtime_checkable
class BraxLike(Protocol):
    """What an environment of Brax has: `reset`, `step` and the number of actions."""

    @property
    def action_size(self) -> int:
        """Components of an action."""
        ...

    def reset(self, rng: jax.Array) -> Any:
        """A state with obs, reward, done, metrics and info."""
        ...

    def step(self, state: Any, action: jax.Array) -> Any:
        """The state after an action."""
        ...


@struct.dataclass
class BraxEnv(Env):
    """An environment of Brax; `from_brax` makes it.

    The state is Brax's whole `State`. A step with `done` and info["truncation"] is
    truncated, any other with `done` is terminated.
    """

    env: Any = struct.static()
    """Brax's environment."""
    seen: foreign.Fixed = struct.static()
    """The observation space."""

    @property
    def observation_space(self) -> Any:
        """A Box without bounds, or a dictionary of them, as Brax names no bounds."""
        return self.seen.space

    @property
    def action_space(self) -> spaces.Box:
        """[A] floating in [−1, 1], as Brax's own agents have it."""
        return spaces.Box(-1.0, 1.0, (self.env.action_size,))

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        """`env.reset`."""
        state = foreign.strong(self.env.reset(key))
        return state, state.obs

    def step(self, state: Any, action: Any, key: jax.Array) -> tuple[Any, TimeStep]:
        """`env.step`; it takes its randomness, if any, from the state, not from `key`.

        Actions are clipped to [−1, 1].
        """
        del key
        name = type(self.env).__name__
        action = spaces.check_element(self.action_space, action, f"{name}'s action")
        # A copy, as Brax's environments write into the dictionaries of their argument.
        copy = jax.tree.map(lambda x: x, state)
        after = self.env.step(copy, jnp.clip(action, -1, 1))
        after = foreign.as_before(name, after, state)
        done = foreign.as_flag(after.done)
        limit = foreign.as_flag(after.info.get("truncation", False))
        reward = foreign.as_reward(after.reward)
        return after, TimeStep(after.obs, reward, done & ~limit, done & limit)


def from_brax(env: Any) -> BraxEnv:
    """An environment of Brax, or of MuJoCo Playground, as one of ours.

        env = brax.envs.get_environment("ant", backend="spring")
        env = brax.envs.training.EpisodeWrapper(env, 1000, action_repeat=1)
        rljax.train(rljax.PPO(), from_brax(env), key, num_updates=200)

    An environment as it comes has no time limit: wrap it in Brax's `EpisodeWrapper`,
    as above, or ours in `rljax.TimeLimit`. Remove Brax's wrappers for batches and
    automatic resets, which rollouts do themselves; Playground's
    `wrap_for_brax_training` adds both. Rollouts draw the reset for each step in
    advance: so each step costs the time of a reset too, and a rollout the memory of as
    many of Brax's states as it has steps.

    Args:
      env: an object with `reset(key)`, `step(state, action)` and `action_size`.

    Raises:
      TypeError: `env` is no such object.
      ValueError: `env` is a batch of environments, resets itself, or shares arrays
        between the environments that `jax.vmap` makes of it, as Playground's do unless
        loaded with `config_overrides={"impl": "jax"}`.
    """
    if not isinstance(env, BraxLike):
        raise TypeError(
            "env must be an environment of Brax with reset, step and action_size, such "
            f"as brax.envs.get_environment('ant'), got {env!r}."
        )
    # By name, as on a single key those for batches fail deep inside JAX.
    if remove := [x for x in _wrappers(env) if x.endswith(_UNWANTED)]:
        raise ValueError(
            "env must be a single environment that does not reset itself. Remove "
            f"{' and '.join(remove)}: rollouts vmap themselves, and reset after each "
            "step with done."
        )
    # Wrappers of other names are known by what they leave in the state.
    state = jax.eval_shape(env.reset, jax.random.key(0))
    if state.done.shape != ():
        raise ValueError(
            f"env must be a single environment, but its done has the shape "
            f"{state.done.shape}. Remove VmapWrapper: rollouts vmap themselves."
        )
    if any(name.endswith("first_obs") for name in state.info):
        raise ValueError(
            "env must not reset itself. Remove AutoResetWrapper: rollouts reset "
            "after each step with done."
        )
    _check_vmap(env, state)
    space = jax.tree.map(lambda x: foreign.unbounded(x.shape, x.dtype), state.obs)
    return BraxEnv(env, foreign.Fixed(env, space))


def _wrappers(env: Any) -> Iterator[str]:
    """The names of the classes around an environment, from the outside in."""
    while hasattr(env, "env"):
        yield type(env).__name__
        env = env.env


def _check_vmap(env: Any, state: Any) -> None:
    """Raises ValueError where a part of the state is not there once per environment."""
    keys = jax.random.split(jax.random.key(0), 2)
    both = jax.eval_shape(jax.vmap(env.reset), keys)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for (path, one), two in zip(leaves, jax.tree.leaves(both), strict=True):
        if two.shape != (2, *one.shape):
            raise ValueError(
                f"env must have a state of its own for each environment under vmap, "
                f"but state{jax.tree_util.keystr(path)} has the shape {two.shape} for "
                f"two of them, {one.shape} for one. MuJoCo's Warp shares arrays so: "
                "load Playground's with config_overrides={'impl': 'jax'}."
            )
