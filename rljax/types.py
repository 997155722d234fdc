"""The data that flows between environments and agents, and their two protocols.

Shape letters: T time, B batch, S states, A actions, D features. A field's shape is for
one environment; a trajectory is a `Transition` whose leaves have a leading [T].
"""

from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from rljax import random, spaces
from rljax.mdp import MDP, SparseTransitions

__all__ = [
    "MDP",
    "Agent",
    "Env",
    "SparseTransitions",
    "TimeStep",
    "Transition",
    "advance",
    "check_agent",
    "check_env",
    "check_key",
    "check_reset",
    "check_step",
    "draw_noise",
]

EnvState = TypeVar("EnvState")


class TimeStep(NamedTuple):
    """What `env.step` returns beside the new state.

    An episode is done when `terminated | truncated`; that is never stored.
    """

    obs: Any
    """True successor observation s_{t+1}, also when the episode ended here."""
    reward: jax.Array
    """r_t, [] floating."""
    terminated: jax.Array
    """[] bool: the MDP ended; the value of `obs` is 0."""
    truncated: jax.Array
    """[] bool: a limit cut the episode; the value of `obs` still counts."""


class Transition(NamedTuple):
    """One step of experience; with leading [T] a trajectory."""

    obs: Any
    """s_t, what the agent saw."""
    action: Any
    """a_t, what it did."""
    reward: jax.Array
    """r_t, [] floating."""
    terminated: jax.Array
    """[] bool."""
    truncated: jax.Array
    """[] bool."""
    next_obs: Any
    """s_{t+1}, the true successor, never the observation after an automatic reset."""
    extras: Any
    """What `agent.act` returned beside the action."""


@runtime_checkable
class Env(Protocol[EnvState]):
    """An environment: a pytree of its physics with two pure functions.

    Shapes and dtypes are fixed and strong, so both functions can be jitted, vmapped
    and scanned. `step` never resets: after a done step the caller starts anew with
    `reset`, and what `step` does beyond the end of an episode is undefined.

    An environment may also say what randomness a step needs (`draw_noise`, `advance`):

        draw(shape, key) -> noise, leaves [*shape, …]
        advance(state, action, noise) -> (state, time step)

    with step(state, action, key) the same as advance(state, action, draw((), key)).
    Rollouts then draw the noise of all their steps at once, which costs far less than
    a key and a draw in every step. One with finitely many states may enumerate itself,
    `to_mdp() -> MDP`.
    """

    @property
    def observation_space(self) -> spaces.Space:
        """What an observation may be."""
        ...

    @property
    def action_space(self) -> spaces.Space:
        """What an action may be."""
        ...

    def reset(self, key: jax.Array) -> tuple[EnvState, Any]:
        """Starts an episode: (state, obs)."""
        ...

    def step(
        self, state: EnvState, action: Any, key: jax.Array
    ) -> tuple[EnvState, TimeStep]:
        """Advances one step: (state, time step)."""
        ...


@runtime_checkable
class Agent(Protocol):
    """A learning rule: a pytree of hyperparameters with four pure functions.

    `act` and `greedy` are for one observation; callers vmap. `update` learns from a
    time-major batch of trajectories whose leaves are [rollout_length, num_envs, …].

    An agent that also has a true `fresh_episodes` is given rollouts that all begin
    with a reset, instead of ones that go on where the last one stopped. If besides it
    has a `group_size` G, a divisor of `num_envs`, each G neighbouring rollouts begin
    with the same reset: episodes from one start, to be compared.

    An agent that also has a true `online` learns within the rollout, after every step:
    instead of `update`, training then calls

        learn(state, transition) -> (state, metrics)     leaves [num_envs, …]

    and like an environment, an agent may say what randomness a decision needs:

        draw(state, shape, key) -> noise, leaves [*shape, …]
        decide(state, obs, noise) -> (action, extras)

    with act(state, obs, key) the same as decide(state, obs, draw(state, (), key)).
    """

    @property
    def num_envs(self) -> int:
        """Environments that are stepped side by side, N."""
        ...

    @property
    def rollout_length(self) -> int:
        """Steps that each environment takes between two updates, T."""
        ...

    def init(self, key: jax.Array, env: Env) -> Any:
        """The untrained agent state for an environment."""
        ...

    def act(self, state: Any, obs: Any, key: jax.Array) -> tuple[Any, Any]:
        """An exploring action, and extras that `update` will find in the trajectory."""
        ...

    def greedy(self, state: Any, obs: Any) -> Any:
        """The action that the agent holds best."""
        ...

    def update(
        self, state: Any, trajectory: Transition, key: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """One learning step: (state, metrics), the metrics scalars by name."""
        ...


def draw_noise(env: Any, shape: tuple[int, ...], key: jax.Array) -> Any:
    """The randomness of many steps, leaves [*shape, …]: `env.draw`, or else keys."""
    # Of the class, not of the instance: a wrapper that hands on what it does not know
    # would hand on the draw of the environment inside, past its own step.
    if hasattr(type(env), "draw"):
        return env.draw(shape, key)
    return random.split(key, shape) if shape else key


def advance(env: Any, state: Any, action: Any, noise: Any) -> tuple[Any, TimeStep]:
    """One step of an environment with an element of what `draw_noise` returned.

    Raises:
      TypeError, ValueError: what the environment returned breaks the contract.
    """
    if hasattr(type(env), "draw"):
        return check_step(env, env.advance(state, action, noise), "advance")
    return check_step(env, env.step(state, action, noise))


def check_reset(env: Any, returned: Any) -> tuple[Any, Any]:
    """What `env.reset` returned, (state, obs), if it is of the right kind.

    Raises:
      TypeError, ValueError: it is not; see the message.
    """
    who = f"{type(env).__name__}.reset"
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise _breach(TypeError, who, f"must return (state, obs), returned {returned}")
    _check_obs(env, who, returned[1])
    return returned


def check_step(env: Any, returned: Any, method: str = "step") -> tuple[Any, TimeStep]:
    """What `env.step` returned, (state, time step), if it is of the right kind.

    Python's numbers and booleans become arrays.

    Raises:
      TypeError, ValueError: it is not; see the message.
    """
    who = f"{type(env).__name__}.{method}"
    if (
        not isinstance(returned, tuple)
        or len(returned) != 2
        or not isinstance(returned[1], TimeStep)
    ):
        what = f"must return (state, rljax.TimeStep(…)), returned {returned}"
        raise _breach(TypeError, who, what)
    state, time_step = returned
    arrays = {}
    for name in ("reward", "terminated", "truncated"):
        value = getattr(time_step, name)
        kinds = (jnp.integer, jnp.floating) if name == "reward" else (jnp.bool_,)
        number = isinstance(value, bool | int | float | np.generic | np.ndarray)
        array = jnp.asarray(value) if number or isinstance(value, jax.Array) else None
        if (
            array is None
            or array.shape
            or not any(jnp.issubdtype(array.dtype, kind) for kind in kinds)
        ):
            kind = "real" if name == "reward" else "bool"
            found = value if array is None else f"{array.dtype} {list(array.shape)}"
            what = f"must return TimeStep.{name} as a {kind} scalar, []"
            raise _breach(TypeError, who, f"{what}, returned {found}")
        arrays[name] = array
    return state, time_step._replace(**arrays)


def _check_obs(env: Any, who: str, obs: Any) -> None:
    space = env.observation_space
    if callable(space) or not hasattr(space, "contains"):
        what = "must be a property that returns a space, such as spaces.Discrete(n)"
        whose = f"{type(env).__name__}.observation_space"
        raise _breach(TypeError, whose, f"{what}, is {space}")
    if not isinstance(space, spaces.Discrete | spaces.Box):
        return
    discrete = isinstance(space, spaces.Discrete)
    leaves = jax.tree.leaves(obs)
    single = len(leaves) == 1 and leaves[0] is obs
    if not single or jnp.shape(leaves[0]) != space.shape:
        found = jax.tree.map(jnp.shape, obs)
        what = f"must return observations of shape {space.shape}, as its {space} says"
        raise _breach(ValueError, who, f"{what}, returned {found}")
    if discrete and not jnp.issubdtype(jnp.result_type(obs), jnp.integer):
        what = f"must return observations of an integer dtype, as its {space} says"
        raise _breach(TypeError, who, f"{what}, returned {jnp.result_type(obs)}")


def _breach(kind: type[Exception], who: str, what: str) -> Exception:
    return kind(f"{who} {what}. rljax.testing.check_env(env, key) tells all.")


def check_env(env: Any) -> None:
    """Raises TypeError unless `env` looks like an environment."""
    if isinstance(env, type) or not isinstance(env, Env):
        raise TypeError(
            "env must be an environment with reset, step, observation_space and "
            f"action_space, got {env!r}. Make one with rljax.make(name) or an "
            "environment class such as rljax.CartPole()."
        )
    _check_pytree("env", env)
    _check_overrides(env, "step", "advance")


def check_agent(agent: Any) -> None:
    """Raises TypeError unless `agent` looks like an agent."""
    if isinstance(agent, type) or not isinstance(agent, Agent):
        raise TypeError(
            "agent must be an agent with num_envs, rollout_length, init, act, greedy "
            f"and update, got {agent!r}. Build one, such as rljax.PPO()."
        )
    _check_pytree("agent", agent)
    _check_overrides(agent, "act", "decide")


def _check_pytree(label: str, value: Any) -> None:
    if jax.tree_util.all_leaves([value]):
        raise TypeError(
            f"{label} must be a pytree, but {type(value).__name__} is not registered "
            "as one. Decorate the class with @rljax.struct.dataclass."
        )


def _check_overrides(value: Any, whole: str, part: str) -> None:
    """Raises TypeError where a class has changed `whole`, but rollouts call `part`."""
    if not hasattr(type(value), "draw"):
        return
    for cls in type(value).__mro__:
        if part in vars(cls):
            return
        if whole in vars(cls):
            raise TypeError(
                f"{cls.__name__} overrides {whole} but inherits {part}, which is what "
                f"rollouts call. Override {part} instead, which {whole} is made of."
            )


def check_key(key: Any) -> None:
    """Accepts one key, typed or legacy.

    Raises:
      TypeError: `key` is no JAX random key.
      ValueError: `key` is an array of keys.
    """
    is_array = isinstance(key, jax.Array)
    typed = is_array and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    is_threefry = jax.config.jax_default_prng_impl == "threefry2x32"  # pyright: ignore[reportAttributeAccessIssue]
    size = 2 if is_threefry else 4
    legacy = is_array and key.dtype == jnp.uint32 and key.shape[-1:] == (size,)
    if not (typed or legacy):
        raise TypeError(
            f"key must be a random key such as jax.random.key(0), got {key!r}."
        )
    batch_shape = key.shape if typed else key.shape[:-1]
    if batch_shape:
        raise ValueError(
            f"key must be a single key, got keys of shape {batch_shape}. vmap over "
            "them: jax.vmap(lambda key: …)(keys)."
        )
