"""Jumanji's environments as ours."""

from typing import Any

import jax
import numpy as np

from rljax import spaces, struct
from rljax.adapters import foreign
from rljax.types import Env, TimeStep


@struct.dataclass
class JumanjiEnv(Env):
    """An environment of Jumanji; `from_jumanji` makes it.

    The state is Jumanji's own. A last step with discount 0 is terminated, one with
    another discount is truncated. Discounts within an episode, if there are any, are
    not passed on: agents have their own.
    """

    env: Any = struct.static()
    """Jumanji's environment."""
    seen: foreign.Fixed = struct.static()
    """The observation space."""
    chosen: foreign.Fixed = struct.static()
    """The action space."""

    @property
    def observation_space(self) -> Any:
        """A space, or a tree of spaces with the structure of Jumanji's observations."""
        return self.seen.space

    @property
    def action_space(self) -> spaces.Space:
        """Discrete, MultiDiscrete or Box."""
        return self.chosen.space

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        """`env.reset`."""
        state, first = self.env.reset(key)
        obs = foreign.as_space(first.observation, self.observation_space)
        return foreign.strong(state), obs

    def step(self, state: Any, action: Any, key: jax.Array) -> tuple[Any, TimeStep]:
        """`env.step`; its randomness, if any, comes from the state, not from `key`."""
        del key
        name = type(self.env).__name__
        action = spaces.check_element(self.action_space, action, f"{name}'s action")
        after, theirs = self.env.step(state, action)
        obs = foreign.as_space(theirs.observation, self.observation_space)
        last, ended = theirs.last(), theirs.discount == 0
        reward = foreign.as_reward(theirs.reward)
        time_step = TimeStep(obs, reward, last & ended, last & ~ended)
        return foreign.as_before(name, after, state), time_step


def from_jumanji(env: Any) -> JumanjiEnv:
    """An environment of Jumanji as one of ours.

        env = from_jumanji(jumanji.make("Snake-v1"))
        rljax.train(rljax.PPO(), env, key, num_updates=200)

    Observations are the tree that Jumanji returns, with a mask of the legal actions in
    most. An agent's own network reads all of it as one vector, and so the mask as
    numbers among others: to rule out illegal actions pass a `network` that does.

    In Jumanji 1.1, LevelBasedForaging and Connector alone truncate where time is up.
    The time limits of all others have discount 0, and so they terminate here as well.

    Args:
      env: what `jumanji.make` returns.

    Raises:
      ImportError: Jumanji is missing.
      TypeError: `env` is no environment of Jumanji, or has a reward for each of several
        agents, or actions that are no Discrete, MultiDiscrete or Box space.
      ValueError: `env` resets itself, or is a batch.
    """
    library = foreign.package("jumanji", "from_jumanji")
    wrappers = foreign.package("jumanji.wrappers", "from_jumanji", "jumanji")
    if not isinstance(env, library.Environment):
        raise TypeError(
            "env must be an environment of Jumanji, such as jumanji.make('Snake-v1'), "
            f"got {env!r}."
        )
    refused = (
        wrappers.AutoResetWrapper,
        wrappers.VmapWrapper,
        wrappers.VmapAutoResetWrapper,
    )
    if isinstance(env, refused):
        raise ValueError(
            "env must be a single environment that does not reset itself, got "
            f"{type(env).__name__}. Remove the wrapper: rollouts do its work."
        )
    if env.reward_spec.shape != ():
        raise TypeError(
            f"env must have one reward, but its reward_spec has shape "
            f"{env.reward_spec.shape}. Wrap it in Jumanji's MultiToSingleWrapper."
        )
    observation = jax.eval_shape(env.reset, jax.random.key(0))[1].observation
    paths, tree = jax.tree_util.tree_flatten_with_path(observation)
    parts = [_space(_part(env.observation_spec, path)) for path, _ in paths]
    seen = foreign.Fixed(env, tree.unflatten(parts))
    return JumanjiEnv(env, seen, foreign.Fixed(env, _space(env.action_spec)))


def _part(spec: Any, path: Any) -> Any:
    """The part of a nested spec that describes one array of the observation."""
    for entry in path:
        spec = spec[jax.tree_util.keystr((entry,), simple=True)]
    return spec


def _space(spec: Any) -> spaces.Space:
    """A spec of Jumanji as one of our spaces."""
    specs = foreign.package("jumanji.specs", "from_jumanji", "jumanji")
    if isinstance(spec, specs.DiscreteArray):
        return spaces.Discrete(int(spec.num_values))
    if isinstance(spec, specs.MultiDiscreteArray) and len(spec.shape) == 1:
        return spaces.MultiDiscrete(tuple(int(n) for n in np.asarray(spec.num_values)))
    if isinstance(spec, specs.BoundedArray):
        return foreign.box(spec.minimum, spec.maximum, spec.shape, spec.dtype)
    if isinstance(spec, specs.Array):
        return foreign.unbounded(spec.shape, spec.dtype)
    raise TypeError(f"from_jumanji knows no space like {spec!r}.")
