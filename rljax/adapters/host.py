"""Environments that are not JAX: Gymnasium's, stepped on the host from our loops."""

import collections
import copy
import functools
import hashlib
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.adapters import foreign
from rljax.adapters.gymnasium_spaces import from_gymnasium_space
from rljax.types import Env, TimeStep


class HostState(NamedTuple):
    """A name for the state of an environment on the host: its seed and all actions."""

    seed: jax.Array
    """[] uint32: what the episode was seeded with."""
    time: jax.Array
    """[] int32: its steps so far; −1 after its end."""
    digest: jax.Array
    """[2] uint32: hash of the seed and of all actions so far; 0 before the first."""


@struct.dataclass
class HostEnv(Env):
    """An environment of Gymnasium on the host; `from_gymnasium` makes it."""

    host: Any = struct.static()
    """The spaces, the instances, and what is known of their episodes."""

    @property
    def observation_space(self) -> Any:
        """Gymnasium's, with Dict and Tuple as a dictionary and a tuple."""
        return self.host.observation_space

    @property
    def action_space(self) -> spaces.Space:
        """Gymnasium's."""
        return self.host.action_space

    def reset(self, key: jax.Array) -> tuple[HostState, Any]:
        """The first observation of an episode whose seed is drawn from `key`."""
        seed = jax.random.bits(random.unrolled(key), (), jnp.uint32)
        obs = _on_host(self.host.first, self._obs_types(), seed)
        return HostState(seed, jnp.int32(0), jnp.zeros(2, jnp.uint32)), obs

    def step(
        self, state: HostState, action: Any, key: jax.Array
    ) -> tuple[HostState, TimeStep]:
        """A step on the host; its randomness comes from the seed, not from `key`.

        Actions of a Box are clipped to its bounds. After the end of an episode nothing
        happens any more: observation and reward are 0 and it terminates again.
        """
        del key
        action = spaces.check_element(self.action_space, action, "action")
        if isinstance(self.action_space, spaces.Box):
            action = jnp.clip(action, self.action_space.low, self.action_space.high)
        number = jax.ShapeDtypeStruct((), jnp.result_type(float))
        flag = jax.ShapeDtypeStruct((), bool)
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
        types = (like, self._obs_types(), number, flag, flag)
        state, *time_step = _on_host(
            self.host.step, types, *state, action, most=self.host.num_envs
        )
        return state, TimeStep(*time_step)

    def _obs_types(self) -> Any:
        tree = spaces.structure(self.observation_space)
        return tree.unflatten(
            [
                jax.ShapeDtypeStruct(space.shape, jnp.result_type(space.dtype))
                for space in tree.flatten_up_to(self.observation_space)
            ]
        )


def _on_host(
    fn: Callable[..., Any], types: Any, *args: Any, most: float = np.inf
) -> Any:
    """Calls `fn` on the host, once for a whole batch, of `most` rows."""

    def over_batch(*arrays):
        arrays = [np.asarray(x) for x in arrays]
        shape = arrays[0].shape
        number = math.prod(shape)
        if number > most:
            raise ValueError(
                f"{number} environments are stepped side by side, but num_envs is "
                f"{most}: call from_gymnasium with num_envs={number} at least, or with "
                "the sum of both numbers for episodes of evaluate or KeepBest beside "
                "those of a training."
            )
        flat = [x.reshape(-1, *x.shape[len(shape) :]) for x in arrays]
        rows = [fn(*row) for row in zip(*flat, strict=True)]
        return jax.tree.map(
            lambda like, *x: np.array(x, like.dtype).reshape((*shape, *like.shape)),
            types,
            *rows,
        )

    return jax.pure_callback(over_batch, types, *args, vmap_method="broadcast_all")


class _Episode:
    """What an instance has done since its reset."""

    def __init__(self, env: Any):
        self.env = env
        self.actions: list[np.ndarray] = []

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool]:
        self.actions.append(action)
        one = action.astype(self.env.action_space.dtype)
        # A Discrete space takes Python's integers. Copied, as some reuse their arrays.
        out = self.env.step(one if one.shape else one.item())
        obs, reward, terminated, truncated, _ = copy.deepcopy(out)
        return obs, float(reward), bool(terminated), bool(truncated)


class Host:
    """Instances of an environment, stepped by the names of states.

    A step is a function of a name and an action, whenever and how often it is called:
    the result of a recent one is remembered, the instance that stands at the state is
    stepped if there is one, and else an instance is brought there by its seed and all
    the actions before.
    """

    def __init__(self, make: Callable[[], Any], num_envs: int):
        self.make, self.num_envs = make, num_envs
        self.scratch = make()
        self.observation_space = from_gymnasium_space(self.scratch.observation_space)
        actions = from_gymnasium_space(self.scratch.action_space)
        self.action_space = foreign.action_space("from_gymnasium", actions)
        any_obs = self.scratch.observation_space.sample()
        self.nothing = jax.tree.map(np.zeros_like, any_obs)
        self.idle = []
        self.live: collections.OrderedDict[bytes, _Episode] = collections.OrderedDict()
        self.recent: collections.OrderedDict[bytes, Any] = collections.OrderedDict()
        self.lock = threading.Lock()

    def first(self, seed: Any) -> Any:
        """The observation of a reset with this seed, by an instance kept for that."""
        with self.lock:
            return copy.deepcopy(self.scratch.reset(seed=int(seed))[0])

    def step(self, seed: Any, time: Any, digest: Any, action: np.ndarray) -> Any:
        """(state, obs, reward, terminated, truncated) after an action."""
        if time < 0:
            return HostState(seed, time, digest), self.nothing, 0.0, True, False
        name = _name(seed, time, digest)
        digest = np.frombuffer(
            hashlib.blake2b(name + action.tobytes(), digest_size=8).digest(), np.uint32
        )
        after = _name(seed, time + 1, digest)
        with self.lock:
            if after not in self.recent:
                episode = self.live.pop(name, None) or self._again(name, seed, time)
                self._advance(after, episode, action)
            self.recent.move_to_end(after)
            obs, reward, terminated, truncated = self.recent[after][2]
        time = np.int32(-1) if terminated or truncated else time + 1
        return HostState(seed, time, digest), obs, reward, terminated, truncated

    def _advance(self, after: bytes, episode: _Episode, action: np.ndarray) -> None:
        """Steps an instance and remembers what came of it."""
        result = episode.step(action)
        self.recent[after] = (episode.actions, len(episode.actions), result)
        if len(self.recent) > 64 + 4 * self.num_envs:
            self.recent.popitem(last=False)
        if result[2] or result[3]:
            self.idle.append(episode.env)
        else:
            self.live[after] = episode

    def _again(self, name: bytes, seed: Any, time: Any) -> _Episode:
        """An instance brought to a state: by its seed and all actions before."""
        actions = []
        if time > 0:
            if name not in self.recent:
                raise RuntimeError(
                    f"nothing is known of the state after {time} steps of seed {seed}. "
                    f"Have more than num_envs = {self.num_envs} episodes been open at "
                    "a time, such as those of KeepBest or evaluate beside those of a "
                    "training? Then pass the sum. Or is it another process's state?"
                )
            every, number, _ = self.recent[name]
            actions = every[:number]
        episode = _Episode(self._instance())
        episode.env.reset(seed=int(seed))
        for action in actions:
            episode.step(action)
        return episode

    def _instance(self) -> Any:
        """One that is idle, or a new one, or that of the longest untouched episode."""
        if self.idle:
            return self.idle.pop()
        if len(self.live) < self.num_envs:
            return self.make()
        return self.live.popitem(last=False)[1].env


def _name(seed: Any, time: Any, digest: Any) -> bytes:
    return b"".join(np.asarray(x).tobytes() for x in (seed, time, digest))


def from_gymnasium(env: str | Callable[[], Any], *, num_envs: int) -> HostEnv:
    """Environments of Gymnasium, stepped on the host, as one of ours.

        env = from_gymnasium("CartPole-v1", num_envs=8)
        rljax.train(rljax.PPO(num_envs=8), env, key, num_updates=200)

    It keeps our contract in full, under jit, vmap and scan: a state is the name of one
    on the host, its seed and all its actions, so that a step is a function of its
    arguments. That takes an environment whose randomness comes from its seed alone.

    It is slow. All environments of a batch wait for one call of Python, which steps
    them one after the other, and rollouts draw a reset for each step in advance, so
    that each step costs a reset as well. On a GPU the device waits for it. A run can't
    be resumed in another process in the middle of an episode, and gradients don't go
    through.

    Args:
      env: a name that `gymnasium.make` knows, or a function that makes an environment.
      num_envs: instances at most, at least as many as are stepped side by side: the
        agent's `num_envs`, or the `num_episodes` of `evaluate`. For episodes in the
        middle of a training, `KeepBest`'s or before it goes on, the sum of both.

    Raises:
      ImportError: Gymnasium is missing.
      TypeError: `env` is neither, or a space is unknown here.
      ValueError: `num_envs` is below 1, or a space of integers does not start at 0.
    """
    gymnasium = foreign.package("gymnasium", "from_gymnasium")
    num_envs = checks.integer("num_envs", num_envs, minimum=1)
    if isinstance(env, str):
        make = functools.partial(gymnasium.make, env)
    elif callable(env):
        make = env
    else:
        raise TypeError(
            f"env must be a name, or a function that makes an environment, got {env!r}."
        )
    return HostEnv(Host(make, num_envs))
