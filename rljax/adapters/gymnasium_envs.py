"""Our environments as Gymnasium's, one or many at once. This module imports it."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rljax import contract, spaces
from rljax.adapters.gymnasium_spaces import (
    from_gymnasium_space,
    to_gymnasium_element,
    to_gymnasium_space,
)
from rljax.envs.wrappers import FrameStack, TimeLimit
from rljax.types import Env, EnvLike, TimeStep

_PICTURES = "rgb_array"
_METADATA: dict[str, Any] = {"render_modes": [_PICTURES], "render_fps": 30}


class GymnasiumEnv(gymnasium.Env[Any, Any]):
    """See `to_gymnasium`."""

    metadata = _METADATA

    def __init__(self, env: EnvLike, *, render_mode: str | None = None):
        self.env = _checked(env, render_mode)
        self.observation_space = to_gymnasium_space(env.observation_space)
        self.action_space = to_gymnasium_space(env.action_space)
        self._choices = from_gymnasium_space(self.action_space)
        self.metadata = _metadata(env)
        self.render_mode = render_mode
        self.spec = EnvSpec(_name(env), f"{__name__}:GymnasiumEnv", kwargs={"env": env})
        self._key, self._state = None, None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; without a seed the randomness of the last one goes on."""
        super().reset(seed=seed)
        if seed is not None or self._key is None:
            self._key = _key_of(self.np_random.integers(2**31))
        self._key, self._state, obs = _reset(self.env, self._key)
        return to_gymnasium_element(obs, self.observation_space), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the environment, which never resets.

        Raises:
          ResetNeeded: there was no reset before.
          ValueError: the action is not in its space.
        """
        _require_reset(self._key, "step")
        action = _action(action, self._choices, self.action_space)
        self._key, self._state, out = _step(self.env, self._key, self._state, action)
        obs, *numbers = out
        reward, terminated, truncated = (x.item() for x in numbers)
        obs = to_gymnasium_element(obs, self.observation_space)
        return obs, reward, terminated, truncated, {}

    def render(self) -> Any:
        """The picture of the state, [H, W, 3] uint8.

        Raises:
          ResetNeeded: there was no reset before.
          ValueError: `render_mode` is None.
        """
        _require_pictures(self.render_mode, "to_gymnasium")
        _require_reset(self._key, "render")
        return contract.render(self.env, self._state, size=400)


class GymnasiumVectorEnv(VectorEnv[Any, Any, np.ndarray]):
    """See `to_gymnasium_vector`."""

    def __init__(
        self,
        env: EnvLike,
        num_envs: int,
        *,
        autoreset_mode: str = "NextStep",
        render_mode: str | None = None,
    ):
        self.env, self.num_envs = _checked(env, render_mode), num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.single_observation_space = to_gymnasium_space(env.observation_space)
        self.single_action_space = to_gymnasium_space(env.action_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._choices = from_gymnasium_space(self.single_action_space)
        self.metadata = _metadata(env) | {"autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self._keys, self._state = None, None
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all environments; environment i has the seed seed + i, or seed[i].

        Raises:
          ValueError: there is not one seed for each environment.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        if seed is not None or self._keys is None:
            self._keys = jax.vmap(_key_of)(self._words(seed))
        self._keys, self._state, obs = _reset_all(self.env, self._keys)
        self._ended = np.zeros(self.num_envs, bool)
        return to_gymnasium_element(obs, self.observation_space), {}

    def _words(self, seed: int | Sequence[int | None] | None) -> np.ndarray:
        """A random word for each environment, that of `GymnasiumEnv` of its seed."""
        if seed is None:
            return self.np_random.integers(2**31, size=self.num_envs)
        if isinstance(seed, int):
            seed = [seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"seed must hold {self.num_envs} seeds, got {len(seed)}.")
        generators = [seeding.np_random(one)[0] for one in seed]
        return np.array([generator.integers(2**31) for generator in generators])

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step of all environments, with the resets of the autoreset mode.

        Raises:
          ResetNeeded: there was no reset before.
          ValueError: `actions` is not in its space.
        """
        _require_reset(self._keys, "step")
        actions = _action(actions, self._choices, self.action_space)
        args = (self.env, self._keys, self._state, actions)
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            done = _next_step_all(*args, self._ended)
        else:
            done = _same_step_all(*args)
        self._keys, self._state, obs, time_step = done
        final, *numbers = time_step
        reward, terminated, truncated = map(np.array, numbers)
        self._ended = terminated | truncated
        infos = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
            final = jax.device_get(final)
            for i in np.flatnonzero(self._ended):
                one = jax.tree.map(lambda x, i=i: x[i], final)
                one = to_gymnasium_element(one, self.single_observation_space)
                info = {"final_obs": one, "final_info": {}}
                infos = self._add_info(infos, info, int(i))
        obs = to_gymnasium_element(obs, self.observation_space)
        return obs, reward.astype(np.float64), terminated, truncated, infos

    def render(self) -> tuple[Any, ...]:
        """A picture of each environment, [H, W, 3] uint8.

        Raises:
          ResetNeeded: there was no reset before.
          ValueError: `render_mode` is None.
        """
        _require_pictures(self.render_mode, "to_gymnasium_vector")
        _require_reset(self._keys, "render")
        states = jax.device_get(self._state)
        return tuple(
            contract.render(
                self.env, jax.tree.map(lambda x, i=i: x[i], states), size=400
            )
            for i in range(self.num_envs)
        )


# Between calls a key is its bare words: JAX takes twice as long to pass a typed one.


def _key_of(seed: Any) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed))


def _split(words) -> tuple[jax.Array, jax.Array]:
    """The words of the next key, and a key to use."""
    key, key_now = jax.random.split(jax.random.wrap_key_data(words))
    return jax.random.key_data(key), key_now


def _advance(env, words, state, action) -> tuple[jax.Array, Any, TimeStep]:
    words, key = _split(words)
    noise = contract.draw_noise(env, (), key)
    return words, *contract.advance(env, state, action, noise)


def _start(env, words) -> tuple[jax.Array, Any, Any]:
    words, key = _split(words)
    return words, *contract.reset(env, key)


def _choose(condition, a, b) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _next_step(env, words, state, action, ended) -> tuple[Any, Any, Any, TimeStep]:
    """A step, or a reset where the step before ended the episode."""
    *stepped, time_step = _advance(env, words, state, action)
    after = _choose(ended, _start(env, words), (*stepped, time_step.obs))
    numbers = jax.tree.map(
        lambda x: jnp.where(ended, jnp.zeros_like(x), x), time_step[1:]
    )
    return *after, TimeStep(after[2], *numbers)


def _same_step(env, words, state, action) -> tuple[Any, Any, Any, TimeStep]:
    """A step, and a reset at once where it ends the episode."""
    words, state, time_step = _advance(env, words, state, action)
    done = time_step.terminated | time_step.truncated
    after = _choose(done, _start(env, words), (words, state, time_step.obs))
    return *after, time_step


# Functions of the environment, and not methods: one program for all of a kind.
_reset = jax.jit(_start)
_step = jax.jit(_advance)
_reset_all = jax.jit(jax.vmap(_start, (None, 0)))
_next_step_all = jax.jit(jax.vmap(_next_step, (None, 0, 0, 0, 0)))
_same_step_all = jax.jit(jax.vmap(_same_step, (None, 0, 0, 0)))


def _checked(env: EnvLike, render_mode: str | None) -> EnvLike:
    contract.require_env(env)
    if render_mode is not None and render_mode not in _metadata(env)["render_modes"]:
        raise ValueError(
            f"render_mode must be None or one of {_metadata(env)['render_modes']}, got "
            f"{render_mode!r}."
        )
    return env


def _action(value: Any, space: spaces.Space, theirs: gymnasium.Space[Any]) -> Any:
    """An action, or a batch of them, in the dtype of `space`; it is of `theirs`."""
    array, dtype = np.asarray(value), jnp.result_type(space.dtype)
    floating = jnp.issubdtype(dtype, jnp.floating)
    if floating:  # rounded before it is looked at, as the bounds are
        array = array.astype(dtype)
    fits = array.shape == theirs.shape and (floating or array.dtype.kind in "biu")
    if not (fits and space.contains(array).all()):
        remedy = " Clip it, as Gymnasium's ClipAction wrappers do." if floating else ""
        raise ValueError(f"action must lie in {theirs}, got {value!r}.{remedy}")
    return array.astype(dtype, copy=False)


def _require_reset(key: Any, call: str) -> None:
    if key is None:
        raise ResetNeeded(f"reset must be called before {call}.")


def _require_pictures(render_mode: str | None, maker: str) -> None:
    if render_mode is None:
        raise ValueError(
            "render_mode is None: to render, pass "
            f"render_mode={_PICTURES!r} to {maker}."
        )


def _metadata(env: EnvLike) -> dict[str, Any]:
    inner = _unwrapped(env)
    drawn = isinstance(inner, Env) and type(inner).render is not Env.render
    return _METADATA if drawn else _METADATA | {"render_modes": []}


def _name(env: EnvLike) -> str:
    return f"rljax/{type(_unwrapped(env)).__name__}-v0"


def _unwrapped(env: EnvLike) -> EnvLike:
    while isinstance(env, TimeLimit | FrameStack):
        env = env.env
    return env
