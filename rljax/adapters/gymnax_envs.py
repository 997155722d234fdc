"""gymnax's environments as ours."""

from importlib import metadata
from typing import Any

import jax

from rljax import checks, spaces, struct
from rljax.adapters import foreign
from rljax.types import Env, TimeStep


@struct.dataclass
class GymnaxEnv(Env):
    """An environment of gymnax, stepped without its automatic reset.

    `from_gymnax` makes it. The state is gymnax's own, with strong dtypes. The limit
    `params.max_steps_in_episode` gives `truncated`, and all other ends `terminated`. A
    step may be both in gymnax 1.x; before, such a step is terminated alone.
    """

    env: Any = struct.static()
    """gymnax's environment."""
    params: Any = struct.data()
    """Its parameters: leaves, so that they can be swept and vmapped over."""
    says_which: bool = struct.static()
    """Whether it tells terminations from time-outs itself, as gymnax 1.x does."""

    @property
    def observation_space(self) -> Any:
        """gymnax's, with Dict and Tuple as a dictionary and a tuple."""
        return _space(self.env.observation_space(self.params))

    @property
    def action_space(self) -> spaces.Space:
        """gymnax's."""
        space = _space(self.env.action_space(self.params))
        return foreign.action_space("from_gymnax", space)

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        """`env.reset_env`."""
        obs, state = self.env.reset_env(key, self.params)
        return foreign.strong(state), self._observed(obs)

    def step(self, state: Any, action: Any, key: jax.Array) -> tuple[Any, TimeStep]:
        """`env.step_env`, which does not reset."""
        name = self.env.name
        action = spaces.check_element(self.action_space, action, f"{name}'s action")
        obs, after, reward, ended, _ = self.env.step_env(
            key, state, action, self.params
        )
        if self.says_which:
            terminated = foreign.as_flag(ended)
            truncated = foreign.as_flag(self.env.is_truncated(after, self.params))
        else:
            # Its one flag is also set when time is up: ask again with endless time.
            endless = self.params.replace(max_steps_in_episode=checks.LARGEST_INT)
            terminated = foreign.as_flag(self.env.is_terminal(after, endless))
            truncated = foreign.as_flag(ended) & ~terminated
        reward = foreign.as_reward(reward)
        time_step = TimeStep(self._observed(obs), reward, terminated, truncated)
        return foreign.as_before(name, after, state), time_step

    def _observed(self, obs: Any) -> Any:
        return foreign.as_space(obs, self.observation_space)


def from_gymnax(env: Any, params: Any = None) -> GymnaxEnv:
    """An environment of gymnax (0.0.9 or 1.x) as one of ours.

        env, params = gymnax.make("Pendulum-v1")
        rljax.train(rljax.PPO(), from_gymnax(env, params), key, num_updates=200)

    Its time limit truncates, so that the value of the last observation is bootstrapped
    from, though gymnax 0.0.9 itself reports one `done` for both ends. Where the limit
    belongs to the task, such as in a bandit whose observation holds the time, that
    makes the value one of an endless task. To vmap over parameters, build the
    environment inside of vmap.

    Args:
      env: what `gymnax.make` returns first, or any `gymnax` environment.
      params: what it returns second; None: `env.default_params`.

    Raises:
      ImportError: gymnax is missing.
      TypeError: `env` is no gymnax environment, or has several action spaces.
    """
    library = foreign.package("gymnax", "from_gymnax")
    if not isinstance(env, library.environments.environment.Environment):
        raise TypeError(
            "env must be an environment of gymnax, such as gymnax.make('CartPole-v1')"
            f"[0], got {env!r}."
        )
    says_which = int(metadata.version("gymnax").split(".")[0]) >= 1
    params = env.default_params if params is None else params
    ours = GymnaxEnv(env, params, says_which)
    _ = ours.action_space  # which raises what is wrong with it
    return ours


def _space(space: Any) -> Any:
    """A space of gymnax as one of ours, or as a tree of ours."""
    theirs = foreign.package("gymnax.environments.spaces", "from_gymnax", "gymnax")
    if isinstance(space, theirs.Discrete):
        return spaces.Discrete(space.n)
    if isinstance(space, theirs.Box):
        return foreign.box(space.low, space.high, space.shape, space.dtype)
    if isinstance(space, theirs.Dict):
        return {name: _space(part) for name, part in space.spaces.items()}
    if isinstance(space, theirs.Tuple):
        return tuple(map(_space, space.spaces))
    raise TypeError(f"from_gymnax knows no space like {space!r}.")
