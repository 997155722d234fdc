"""Experience: an agent acting in an environment for a fixed number of steps."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import random
from rljax.types import Agent, Env, Transition, advance, check_reset, draw_noise


class RolloutState(NamedTuple):
    """Where one environment stands between two rollouts."""

    env_state: Any
    obs: Any
    """What the agent sees next."""
    episode_return: jax.Array
    """[] floating: undiscounted rewards of the running episode so far."""
    episode_length: jax.Array
    """[] int32: its steps so far."""


class EpisodeSums(NamedTuple):
    """Sums over the episodes that ended; 0 before the first one does."""

    num_episodes: jax.Array
    """[] int32."""
    episode_return_sum: jax.Array
    """[] floating, of undiscounted returns."""
    episode_length_sum: jax.Array
    """[] int32."""


def start(env: Env, key: jax.Array) -> RolloutState:
    """Resets one environment."""
    env_state, obs = check_reset(env, env.reset(key))
    zero = jnp.zeros((), jnp.result_type(float))
    return RolloutState(env_state, obs, zero, jnp.zeros((), jnp.int32))


def unroll(
    agent: Agent,
    agent_state: Any,
    env: Env,
    rollout_state: RolloutState,
    key: jax.Array,
    *,
    length: int,
) -> tuple[RolloutState, Transition, EpisodeSums]:
    """Takes `length` steps in one environment, resetting after each done one.

    `Transition.next_obs` is the true successor; the fresh observation after a reset
    appears only as the next transition's `obs`. Beside the trajectory, `length` fresh
    environment states are held in memory while it runs.

    Args:
      agent: acts through `agent.act`.
      agent_state: from `agent.init` or `agent.update`.
      env: environment.
      rollout_state: from `start` or an earlier `unroll`.
      key: random key.
      length: number of steps, T.

    Returns:
      The state to go on from, the trajectory [T, …], and the sums over the episodes
      that ended in it, their steps from earlier rollouts included.
    """

    def step(carry, noise):
        state, sums = carry
        state, transition, ended = _step(agent, agent_state, env, state, noise)
        return (state, jax.tree.map(jnp.add, sums, ended)), transition

    noise = _draw_all(agent, agent_state, env, key, (length,))
    sums = _no_episodes(rollout_state.episode_return.dtype)
    (rollout_state, sums), trajectory = jax.lax.scan(step, (rollout_state, sums), noise)
    return rollout_state, trajectory, sums


def unroll_online(
    agent: Any,
    agent_state: Any,
    env: Env,
    rollout_state: RolloutState,
    key: jax.Array,
    *,
    length: int,
    record: Callable[[Any, Transition], Any] | None = None,
) -> tuple[Any, RolloutState, EpisodeSums, dict[str, jax.Array], Any]:
    """Takes `length` steps in each of N environments and learns after every one.

    As `unroll`, but of an online agent: step t acts with what the agent learned from
    steps 0 … t−1. No trajectory is kept.

    Args:
      agent: learns through `agent.learn`, see `types.Agent`.
      agent_state: from `agent.init`.
      env: environment.
      rollout_state: leaves [N, …].
      key: random key.
      length: number of steps, T.
      record: a function of (env_state, transition) of one environment, the state being
        the one that the step was taken from, whose results are kept.

    Returns:
      The learned agent state, the state to go on from, the sums over the episodes that
      ended, the mean metrics, and the records, [T, N, …] or None.
    """
    num_envs = len(rollout_state.episode_length)
    noise = _draw_all(agent, agent_state, env, key, (length, num_envs))

    def step_all(agent_state, state, noise):
        step = functools.partial(_step, agent, agent_state, env)
        if num_envs > 1:
            return jax.vmap(step)(state, noise)
        # Not vmap over an axis of 1: without it the compiler sees that act and learn
        # read one and the same row of a table.
        one = step(*jax.tree.map(lambda x: x[0], (state, noise)))
        return jax.tree.map(lambda x: x[None], one)

    def step(carry, noise):
        agent_state, state, sums, totals = carry
        next_state, transition, ended = step_all(agent_state, state, noise)
        recorded = record and jax.vmap(record)(state.env_state, transition)
        agent_state, metrics = agent.learn(agent_state, transition)
        sums = jax.tree.map(
            lambda total, x: total + jnp.sum(x, dtype=x.dtype), sums, ended
        )
        totals = jax.tree.map(jnp.add, totals, metrics)
        return (agent_state, next_state, sums, totals), recorded

    def first_metrics():
        first = jax.tree.map(lambda x: x[0], noise)
        _, transition, _ = step_all(agent_state, rollout_state, first)
        return agent.learn(agent_state, transition)[1]

    sums = _no_episodes(rollout_state.episode_return.dtype)
    totals = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(first_metrics)
    )
    start = (agent_state, rollout_state, sums, totals)
    (agent_state, rollout_state, sums, totals), records = jax.lax.scan(
        step, start, noise
    )
    metrics = jax.tree.map(lambda total: total / length, totals)
    return agent_state, rollout_state, sums, metrics, records


def _draw_all(agent, agent_state, env, key, shape):
    """Noise of decisions and of steps, and fresh starts, each [*shape, …].

    All at once, outside the loop, which spares the loop most of its random words; and
    as three separate streams, so that the compiler can drop those that are not used.
    """
    key_act, key_step, key_reset = random.split(key, 3)
    if hasattr(type(agent), "draw"):
        noise_act = agent.draw(agent_state, shape, key_act)
    else:
        noise_act = random.split(key_act, shape)
    reset = env.reset
    for _ in shape:
        reset = jax.vmap(reset)
    fresh = reset(random.split(key_reset, shape))
    return noise_act, draw_noise(env, shape, key_step), fresh


def _step(agent, agent_state, env, state, noise):
    """One step of one environment, and a reset where it ended an episode."""
    noise_act, noise_step, fresh_start = noise
    decide = agent.decide if hasattr(type(agent), "draw") else agent.act
    action, extras = decide(agent_state, state.obs, noise_act)
    env_state, time_step = advance(env, state.env_state, action, noise_step)
    transition = Transition(
        obs=state.obs,
        action=action,
        reward=time_step.reward,
        terminated=time_step.terminated,
        truncated=time_step.truncated,
        next_obs=time_step.obs,
        extras=extras,
    )
    done = time_step.terminated | time_step.truncated
    episode_return = state.episode_return + time_step.reward
    episode_length = state.episode_length + 1
    ended = EpisodeSums(
        done.astype(jnp.int32),
        jnp.where(done, episode_return, 0),
        jnp.where(done, episode_length, 0),
    )
    env_state, obs = jax.tree.map(
        lambda reset, stepped: jnp.where(done, reset, stepped),
        fresh_start,
        (env_state, time_step.obs),
    )
    state = RolloutState(
        env_state,
        obs,
        jnp.where(done, 0, episode_return),
        jnp.where(done, 0, episode_length),
    )
    return state, transition, ended


def _no_episodes(dtype: Any) -> EpisodeSums:
    zero = jnp.zeros((), jnp.int32)
    return EpisodeSums(zero, jnp.zeros((), dtype), zero)
