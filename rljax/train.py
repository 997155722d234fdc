"""Training: one pure function of an agent, an environment and a key."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import random, returns, rollout, struct
from rljax.rollout import EpisodeSums, RolloutState
from rljax.types import (
    Agent,
    Env,
    Transition,
    check_agent,
    check_env,
    check_key,
)

Measure = Callable[[Any, Any, Any], dict[str, jax.Array]]


class TrainState(NamedTuple):
    """Everything that training carries from one update to the next."""

    agent_state: Any
    rollout_state: RolloutState
    """Leaves [num_envs, …]."""
    key: jax.Array


class Metrics(NamedTuple):
    """One update's metrics; `train` stacks them to [num_updates].

    Episodes come as sums, so that any window, over updates or seeds, has an exact mean
    and an update in which no episode ended says so with a count of 0.
    """

    num_episodes: jax.Array
    """[] int32: episodes that ended during this update's rollout."""
    episode_return_sum: jax.Array
    """[] floating: sum of their undiscounted returns."""
    episode_length_sum: jax.Array
    """[] int32: sum of their lengths, in steps."""
    agent: dict[str, jax.Array]
    """What `agent.update` reports, scalars."""

    @property
    def episode_return(self) -> jax.Array:
        """Mean return of the episodes that ended, NaN where none did."""
        return _mean(self.episode_return_sum, self.num_episodes)

    @property
    def episode_length(self) -> jax.Array:
        """Mean length of the episodes that ended, NaN where none did."""
        return _mean(self.episode_length_sum, self.num_episodes)


def _mean(total, count):
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def init_train(agent: Agent, env: Env, key: jax.Array) -> TrainState:
    """An untrained agent and freshly reset environments.

    Raises:
      TypeError, ValueError: something is not what its name says; see the message.
    """
    check_agent(agent)
    check_env(env)
    check_key(key)
    key_agent, key_reset, key = random.split(key, 3)
    return TrainState(
        agent_state=agent.init(key_agent, env),
        rollout_state=_start_all(agent, env, key_reset),
        key=key,
    )


def train_step(
    agent: Agent, env: Env, train_state: TrainState, *, measure: Measure | None = None
) -> tuple[TrainState, Metrics]:
    """One rollout of `rollout_length` steps in `num_envs` environments, one update.

    Not jitted: jit it, or a scan over it, with the state donated if memory is short.
    `measure` is as in `train`.

    Raises:
      TypeError, ValueError: something is not what its name says; see the message.
    """
    _check_train_state(agent, train_state)
    key_reset, key_unroll, key_update, key = random.split(train_state.key, 4)
    fresh_episodes = getattr(agent, "fresh_episodes", False)
    rollout_state = train_state.rollout_state
    if fresh_episodes:
        rollout_state = _start_all(agent, env, key_reset)
    if getattr(agent, "online", False):
        agent_state, rollout_state, sums, agent_metrics, _ = rollout.unroll_online(
            agent,
            train_state.agent_state,
            env,
            rollout_state,
            key_unroll,
            length=agent.rollout_length,
        )
        agent_metrics = _measured(measure, agent, env, agent_state, agent_metrics)
        metrics = Metrics(*sums, agent=agent_metrics)
        return TrainState(agent_state, rollout_state, key), metrics

    def unroll(state, key):
        return rollout.unroll(
            agent,
            train_state.agent_state,
            env,
            state,
            key,
            length=agent.rollout_length,
        )

    rollout_state, trajectory, sums = jax.vmap(unroll, out_axes=(0, 1, 0))(
        rollout_state, random.split(key_unroll, agent.num_envs)
    )
    if fresh_episodes:
        sums = jax.vmap(_first_episode_sums, in_axes=1)(trajectory)
    agent_state, agent_metrics = agent.update(
        train_state.agent_state, trajectory, key_update
    )
    agent_metrics = _measured(measure, agent, env, agent_state, agent_metrics)
    sums = jax.tree.map(lambda x: jnp.sum(x, dtype=x.dtype), sums)
    metrics = Metrics(*sums, agent=agent_metrics)
    return TrainState(agent_state, rollout_state, key), metrics


def train(
    agent: Agent,
    env: Env,
    key: jax.Array,
    *,
    num_updates: int,
    measure: Measure | None = None,
) -> tuple[TrainState, Metrics]:
    """Trains from scratch for `num_updates` updates in one compiled program.

    Pure, so `vmap` over keys, hyperparameters or physics, `grad` and `jit` apply. It
    compiles once for each structure of its arguments (a new lambda as an optimiser is a
    new structure): another float costs nothing. The same key on the same device and
    versions gives bitwise the same result.

    `grad` is that of the computation as it ran, with the sampled actions held fixed: it
    flows through parameters, not through what other actions would have earned. A
    smooth function of the final parameters has a meaningful gradient, an empirical
    mean of CartPole's constant rewards has 0.

    Args:
      agent: learning rule.
      env: environment.
      key: random key, typed or legacy.
      num_updates: number of updates, 0 or more; num_updates × rollout_length ×
        num_envs environment steps in all.
      measure: a pure function of (agent, env, agent_state) that returns scalars by
        name; called after each update, inside the compiled program, its results join
        `metrics.agent`. Such as `regularized.measure`.

    Returns:
      The final state, and metrics with leaves [num_updates].

    Raises:
      TypeError, ValueError: something is not what its name says; see the message.
    """
    check_agent(agent)
    check_env(env)
    check_key(key)
    num_updates = struct.check_int(
        "num_updates", num_updates, minimum=0, maximum=struct.LARGEST_INT
    )
    check_measure(measure)
    return _train(agent, env, key, num_updates, measure)


def check_measure(measure: Any) -> None:
    """Raises TypeError unless `measure` is None or a function."""
    if measure is not None and not callable(measure):
        raise TypeError(
            "measure must be a function of (agent, env, agent_state) that returns "
            f"scalars by name, got {measure!r}."
        )


@functools.partial(jax.jit, static_argnums=(3, 4))
def _train(agent, env, key, num_updates, measure):
    return jax.lax.scan(
        lambda state, _: train_step(agent, env, state, measure=measure),
        init_train(agent, env, key),
        length=num_updates,
    )


def _check_train_state(agent: Agent, train_state: Any) -> None:
    if not isinstance(train_state, TrainState):
        raise TypeError(
            "train_state must come from rljax.init_train(agent, env, key), got a "
            f"{type(train_state).__name__}."
        )
    shape = jnp.shape(train_state.rollout_state.episode_length)
    if shape != (agent.num_envs,):
        raise ValueError(
            f"train_state must be of {type(agent).__name__}.num_envs = "
            f"{agent.num_envs} environments, is of shape {shape}. Make it with "
            "rljax.init_train(agent, env, key); of several seeds, vmap train_step."
        )


def _measured(measure, agent, env, agent_state, metrics):
    """The agent's metrics, and what `measure` says besides."""
    if measure is None:
        return metrics
    found = measure(agent, env, agent_state)
    if not isinstance(found, dict) or not all(isinstance(n, str) for n in found):
        raise TypeError(
            f"measure must return a dictionary of scalars by name, returned {found!r}."
        )
    shapes = {name: jnp.shape(value) for name, value in found.items()}
    for name, shape in shapes.items():
        if shape or name in metrics:
            raise ValueError(
                "measure must return scalars under names that the agent's metrics "
                f"({', '.join(metrics)}) have not, returned {name!r} of shape {shape}."
            )
    dtype = jnp.result_type(float)
    return metrics | {name: jnp.asarray(x, dtype) for name, x in found.items()}


def _start_all(agent: Agent, env: Env, key: jax.Array) -> RolloutState:
    fresh_episodes = getattr(agent, "fresh_episodes", False)
    group_size = getattr(agent, "group_size", 1) if fresh_episodes else 1
    if agent.num_envs % group_size:
        raise ValueError(
            f"{type(agent).__name__}.group_size must divide num_envs = "
            f"{agent.num_envs}, got {group_size}."
        )
    keys = random.split(key, agent.num_envs // group_size)
    if group_size > 1:
        keys = keys[jnp.arange(agent.num_envs) // group_size]
    return jax.vmap(lambda k: rollout.start(env, k))(keys)


def _first_episode_sums(trajectory: Transition) -> EpisodeSums:
    """The first episode alone, if it ended.

    Rollouts that begin with a reset have more room for short episodes than for long
    ones, so a mean over all that ended in them would be too low.
    """
    done = trajectory.terminated | trajectory.truncated
    mask = returns.first_episode(trajectory.terminated, trajectory.truncated)
    ended = jnp.any(done)
    rewards = trajectory.reward.astype(jnp.result_type(float))
    return EpisodeSums(
        ended.astype(jnp.int32),
        jnp.where(ended, jnp.sum(rewards, where=mask), 0),
        jnp.where(ended, jnp.sum(mask, dtype=jnp.int32), 0),
    )
