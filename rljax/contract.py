"""The two contracts, enforced: what is no agent or environment is refused by name.

What a user's `reset` and `step` return is looked at as it is traced, so that a mistake
shows where it is made and not as a shape error deep inside of JAX.
"""

import contextlib
import linecache
import os
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, display, spaces
from rljax.types import Agent, Env, EnvLike, RolloutPlan, TimeStep

_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
_NOT_THE_USERS = tuple(
    os.path.dirname(file) + os.sep for file in (__file__, jax.__file__, np.__file__)
)


@contextlib.contextmanager
def naming_branches(who: str, kind: type[Exception] = TypeError) -> Iterator[None]:
    """Says whose Python code asked for the value of a traced array, and what to do.

    Args:
      who: what is called, for the message if no line of the user's is found.
      kind: of the error.
    """
    try:
        yield
    except _UNTRACEABLE as error:
        frames = [
            (frame, line)
            for frame, line in traceback.walk_tb(error.__traceback__)
            if not frame.f_code.co_filename.startswith(_NOT_THE_USERS)
        ]
        if frames:
            code, line = frames[-1][0].f_code, frames[-1][1]
            text = linecache.getline(code.co_filename, line).strip()
            who = f"{code.co_qualname} ({code.co_filename}:{line}: {text})"
        raise kind(
            f"{who} asks for the value of a traced array, which is not known yet, as "
            "Python's if, while, and, or, int(), float() and functions of NumPy do. "
            "Use jnp.where(condition, a, b), jax.lax.cond or jax.lax.while_loop, and "
            "jnp in the place of np."
        ) from error


def draw_noise(env: EnvLike, shape: tuple[int, ...], key: jax.Array) -> Any:
    """The randomness of many steps, leaves [*shape, …]: `env.draw`, or else keys."""
    return env.draw(shape, key) if isinstance(env, Env) else Env.draw(env, shape, key)  # pyright: ignore[reportArgumentType]


def render(env: EnvLike, state: Any, *, size: int) -> np.ndarray:
    """`env.render(state, size=size)`, if it is a picture, [H, W, 3] uint8.

    Raises:
      TypeError: the environment has no picture, or what it returns is none.
    """
    if isinstance(env, Env):
        picture = env.render(state, size=size)
    else:
        picture = Env.render(env, state, size=size)  # pyright: ignore[reportArgumentType]
    shape, dtype = np.shape(picture), getattr(picture, "dtype", None)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
        raise TypeError(
            f"{type(env).__name__}.render must return an array [H, W, 3] of uint8, "
            f"returned {display.in_words(picture)}."
        )
    return np.asarray(picture)


def reset(env: EnvLike, key: jax.Array) -> tuple[Any, Any]:
    """`env.reset(key)`, if what it returns is of the right kind: (state, obs).

    Raises:
      TypeError, ValueError: it is not; see the message.
    """
    who = f"{type(env).__name__}.reset"
    with naming_branches(who):
        returned = env.reset(key)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise _breach(
            TypeError,
            who,
            f"must return (state, obs), returned {display.in_words(returned)}",
        )
    _check_obs(env, who, returned[1])
    return returned


def advance(env: EnvLike, state: Any, action: Any, noise: Any) -> tuple[Any, TimeStep]:
    """One step with an element of what `draw_noise` returned, if it is of its kind.

    Python's numbers and booleans become arrays, the reward one of JAX's default float.
    A step to an observation outside of a Discrete space pays NaN unless it terminates,
    see `is_known`.

    Raises:
      TypeError, ValueError: what the environment returned breaks the contract.
    """
    named = isinstance(env, Env) and type(env).advance is not Env.advance
    who = f"{type(env).__name__}.{'advance' if named else 'step'}"
    with naming_branches(who):
        if isinstance(env, Env):
            returned = env.advance(state, action, noise)
        else:
            returned = env.step(state, action, noise)
    if (
        not isinstance(returned, tuple)
        or len(returned) != 2
        or not isinstance(returned[1], TimeStep)
    ):
        found = display.in_words(returned)
        what = f"must return (state, rljax.TimeStep(…)), returned {found}"
        raise _breach(TypeError, who, what)
    state, time_step = returned
    reward = _scalar(who, "reward", time_step.reward, "real", jnp.integer, jnp.floating)
    reward = reward.astype(float)
    terminated, truncated = (
        _scalar(who, name, flag, "bool", jnp.bool_)
        for name, flag in zip(time_step._fields[2:], time_step[2:], strict=True)
    )
    space = env.observation_space
    if isinstance(space, spaces.Discrete):
        counts = is_known(space, time_step.obs) | terminated
        reward = jnp.where(counts, reward, jnp.nan)
    return state, TimeStep(time_step.obs, reward, terminated, truncated)


def is_known(space: spaces.Discrete, obs: Any) -> jax.Array:
    """Whether observations lie in a Discrete space, [...] bool.

    A table has no row for others: JAX would read its last one, and what is learned be
    wrong in silence. So the reward of a step to one is NaN in rollouts, and so is what
    is learned from it, and the mean return where a reset leads to one.
    """
    return jnp.asarray(obs).astype(jnp.uint32) < space.n  # −1 becomes 2³² − 1


def decide(
    agent: Agent, state: Any, obs: Any, noise: Any, memory: Any
) -> tuple[Any, Any, Any]:
    """`agent.decide`, if it returns (action, extras, memory).

    Raises:
      TypeError, ValueError: it does not; see the message.
    """
    who = f"{type(agent).__name__}.decide"
    with naming_branches(who):
        returned = agent.decide(state, obs, noise, memory)
    if not isinstance(returned, tuple) or len(returned) != 3:
        what = "(action, extras, memory) or act (action, extras), returned "
        what += display.in_words(returned)
        raise TypeError(f"{who} must return {what}.")
    check_alike(f"{who}'s memory", returned[2], memory, "init_memory")
    return returned


def update(
    agent: Agent, state: Any, trajectory: Any, key: jax.Array
) -> tuple[Any, dict[str, jax.Array]]:
    """`agent.update`, if it returns (state, metrics), the metrics as arrays by name.

    Raises:
      TypeError: it does not; see the message.
    """
    who = f"{type(agent).__name__}.update"
    with naming_branches(who):
        returned = agent.update(state, trajectory, key)
    pair = isinstance(returned, tuple | list) and len(returned) == 2
    if not pair or not isinstance(returned[1], dict):
        raise TypeError(
            f"{who} must return (state, metrics), the metrics a dictionary of scalars "
            f"by name, returned {display.in_words(returned)}."
        )
    for name, value in returned[1].items():
        number = isinstance(value, int | float | np.generic | np.ndarray | jax.Array)
        if not isinstance(name, str) or not number:
            raise TypeError(
                f"{who} must return metrics that are numbers by name, returned "
                f"{name!r}: {value}."
            )
    state, metrics = returned
    return state, {name: jnp.asarray(value) for name, value in metrics.items()}


def check_alike(what: str, after: Any, before: Any, origin: str) -> None:
    """Raises TypeError or ValueError unless two trees have one structure and shapes.

    Otherwise choosing between them, as after each step, would broadcast in silence.
    """
    if jax.tree.structure(after) != jax.tree.structure(before):
        raise TypeError(
            f"{what} must have the structure that {origin} gives, "
            f"{jax.tree.structure(before)}, has {jax.tree.structure(after)}."
        )
    leaves = jax.tree_util.tree_leaves_with_path(after)
    for (path, leaf), first in zip(leaves, jax.tree.leaves(before), strict=True):
        if jnp.shape(leaf) != jnp.shape(first):
            raise ValueError(
                f"{what}{jax.tree_util.keystr(path)} must have the shape "
                f"{jnp.shape(first)} that {origin} gives, has {jnp.shape(leaf)}."
            )


def _scalar(who: str, name: str, value: Any, kind: str, *dtypes: Any) -> jax.Array:
    number = isinstance(value, bool | int | float | np.generic | np.ndarray)
    array = jnp.asarray(value) if number or isinstance(value, jax.Array) else None
    if (
        array is None
        or array.shape
        or not any(jnp.issubdtype(array.dtype, dtype) for dtype in dtypes)
    ):
        found = value if array is None else f"{array.dtype} {list(array.shape)}"
        what = f"must return TimeStep.{name} as a {kind} scalar, []"
        raise _breach(TypeError, who, f"{what}, returned {found}")
    return array


def _check_obs(env: EnvLike, who: str, obs: Any) -> None:
    whole = env.observation_space
    try:
        tree = spaces.structure(whole)
    except TypeError as error:
        what = "must be a property that returns a space, such as spaces.Discrete(n)"
        whose = f"{type(env).__name__}.observation_space"
        what = f"{what}, or a dictionary or tuple of spaces, is {whole}"
        raise _breach(TypeError, whose, what) from error
    try:
        parts = tree.flatten_up_to(obs)
    except ValueError as error:
        what = f"must return observations with the structure of its space {whole}"
        raise _breach(
            ValueError, who, f"{what}, returned {display.in_words(obs)}: {error}"
        ) from error
    for space, part in zip(tree.flatten_up_to(whole), parts, strict=True):
        _check_part(space, who, part)


def _check_part(space: spaces.Space, who: str, obs: Any) -> None:
    if not isinstance(space, spaces.Discrete | spaces.Box):
        return
    leaves = jax.tree.leaves(obs)
    single = len(leaves) == 1 and leaves[0] is obs
    if not single or jnp.shape(leaves[0]) != space.shape:
        found = jax.tree.map(jnp.shape, obs)
        what = f"must return observations of shape {space.shape}, as its {space} says"
        raise _breach(ValueError, who, f"{what}, returned {found}")
    discrete = isinstance(space, spaces.Discrete)
    if discrete and not jnp.issubdtype(jnp.result_type(obs), jnp.integer):
        what = f"must return observations of an integer dtype, as its {space} says"
        raise _breach(TypeError, who, f"{what}, returned {jnp.result_type(obs)}")


def _breach(kind: type[Exception], who: str, what: str) -> Exception:
    return kind(f"{who} {what}. rljax.testing.check_env(env, key) tells all.")


def require(agent: Any, env: Any, key: Any) -> None:
    """Raises TypeError or ValueError unless these are what their names say."""
    require_agent(agent)
    require_env(env)
    checks.key(key)


def require_env(env: Any) -> None:
    """Raises TypeError unless `env` looks like an environment."""
    if isinstance(env, type) or not isinstance(env, EnvLike):
        raise TypeError(
            "env must be an environment with reset, step, observation_space and "
            f"action_space, got {env!r}. Make one with rljax.make(name) or an "
            "environment class such as rljax.CartPole()."
        )
    _require_pytree("env", env)
    if not isinstance(env, Env):
        return
    kind = type(env)
    if kind.step is Env.step and kind.advance is Env.advance:
        raise TypeError(f"{kind.__name__} must define step or advance.")
    if kind.draw is not Env.draw and kind.advance is Env.advance:
        raise TypeError(f"{kind.__name__} must define advance, as it defines draw.")


def require_agent(agent: Any) -> RolloutPlan:
    """The agent's rollout plan, checked.

    Raises:
      TypeError, ValueError: `agent` is no agent, or its plan is not consistent.
    """
    if not isinstance(agent, Agent):
        raise TypeError(
            "agent must be an agent, derived from rljax.Agent with num_envs, "
            f"rollout_length, init, act, greedy and update, got {agent!r}. Build one, "
            "such as rljax.PPO()."
        )
    _require_pytree("agent", agent)
    kind, who = type(agent), type(agent).__name__
    if kind.act is Agent.act and kind.decide is Agent.decide:
        raise TypeError(f"{who} must define act or decide.")
    if kind.greedy is Agent.greedy and kind.decide_greedily is Agent.decide_greedily:
        raise TypeError(f"{who} must define greedy or decide_greedily.")
    if kind.draw is not Agent.draw and kind.decide is Agent.decide:
        raise TypeError(f"{who} must define decide, as it defines draw.")
    if kind.init_memory is not Agent.init_memory and (
        kind.decide is Agent.decide or kind.decide_greedily is Agent.decide_greedily
    ):
        raise TypeError(
            f"{who} must define decide and decide_greedily, as it defines init_memory: "
            "both carry the memory on."
        )
    plan = agent.rollout_plan
    if not isinstance(plan, RolloutPlan):
        raise TypeError(f"{who}.rollout_plan must be a RolloutPlan, got {plan!r}.")
    for name, value in plan._asdict().items():
        if name != "fresh_episodes" and value is not None:
            checks.integer(f"{who}.{name}", value, minimum=1)
    if not isinstance(plan.fresh_episodes, bool):
        raise TypeError(
            f"{who}'s rollout_plan.fresh_episodes must be True or False, got "
            f"{plan.fresh_episodes!r}."
        )
    if plan.rollout_length % plan.block:
        raise ValueError(
            f"{who}'s rollout_plan.update_every must divide rollout_length = "
            f"{plan.rollout_length}, got {plan.update_every}."
        )
    if plan.num_envs % plan.group_size:
        raise ValueError(
            f"{who}.group_size must divide num_envs = {plan.num_envs}, got "
            f"{plan.group_size}."
        )
    if plan.group_size > 1 and not plan.fresh_episodes:
        raise ValueError(
            f"{who}.group_size must be 1 without fresh_episodes, got {plan.group_size}."
        )
    return plan


def _require_pytree(label: str, value: Any) -> None:
    if jax.tree_util.all_leaves([value]):
        raise TypeError(
            f"{label} must be a pytree, but {type(value).__name__} is not registered "
            "as one. Decorate the class with @rljax.struct.dataclass."
        )
