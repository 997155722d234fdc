"""Experience: an agent acting in an environment for a fixed number of steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax.types import Agent, Env, Transition


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
    env_state, obs = env.reset(key)
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
    # Keys and resets for all steps at once, outside the loop, which spares the loop
    # most of its random words; and three separate streams, so that the compiler can
    # drop the step keys of an environment that does not use them.
    keys_act, keys_step, keys_reset = (
        jax.random.split(stream, length) for stream in jax.random.split(key, 3)
    )
    fresh = jax.vmap(env.reset)(keys_reset)

    def step(carry, inputs):
        state, sums = carry
        key_act, key_step, fresh_start = inputs
        action, extras = agent.act(agent_state, state.obs, key_act)
        env_state, time_step = env.step(state.env_state, action, key_step)
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
        sums = EpisodeSums(
            sums.num_episodes + done.astype(jnp.int32),
            sums.episode_return_sum + jnp.where(done, episode_return, 0),
            sums.episode_length_sum + jnp.where(done, episode_length, 0),
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
        return (state, sums), transition

    zero = jnp.zeros((), jnp.int32)
    sums = EpisodeSums(zero, jnp.zeros_like(rollout_state.episode_return), zero)
    (rollout_state, sums), trajectory = jax.lax.scan(
        step, (rollout_state, sums), (keys_act, keys_step, fresh)
    )
    return rollout_state, trajectory, sums
