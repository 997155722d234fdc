"""Evaluation: whole episodes of the greedy policy."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import random, struct
from rljax.types import (
    Agent,
    Env,
    check_agent,
    check_env,
    check_key,
    check_reset,
    check_step,
)


class Evaluation(NamedTuple):
    """One entry per episode, each leaf [num_episodes]."""

    episode_returns: jax.Array
    """Undiscounted returns, floating."""
    episode_lengths: jax.Array
    """Steps, int32."""
    finished: jax.Array
    """bool: False where `max_steps` stopped an episode that the environment had not."""


def evaluate(
    agent: Agent,
    agent_state: Any,
    env: Env,
    key: jax.Array,
    *,
    num_episodes: int,
    max_steps: int = 10_000,
) -> Evaluation:
    """Plays `num_episodes` whole episodes with `agent.greedy`, side by side.

    Every episode starts with a reset and counts once, however short, so the mean is
    not biased towards short episodes.

    Args:
      agent: learning rule, the one of training.
      agent_state: from training, `train_state.agent_state`. Its `params` or `q_values`,
        if it has such a field, must have the shapes that `agent.init` gives them.
      env: environment, not necessarily the one of training.
      key: random key.
      num_episodes: 1 or more.
      max_steps: steps after which an episode is given up, for environments without a
        limit of their own.

    Raises:
      TypeError, ValueError: something is not what its name says; see the message.
    """
    check_agent(agent)
    check_env(env)
    check_key(key)
    if hasattr(agent_state, "agent_state"):
        raise TypeError(
            "agent_state must be the agent's own state, got a "
            f"{type(agent_state).__name__}: pass train_state.agent_state."
        )
    num_episodes = struct.check_int("num_episodes", num_episodes, minimum=1)
    max_steps = struct.check_int(
        "max_steps", max_steps, minimum=1, maximum=struct.LARGEST_INT
    )
    return _evaluate(agent, agent_state, env, key, num_episodes, max_steps)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _evaluate(agent, agent_state, env, key, num_episodes, max_steps):
    _check_agent_state(agent, agent_state, env, key)

    def episode(key):
        key_reset, key_steps = jax.random.split(key)
        env_state, obs = check_reset(env, env.reset(key_reset))
        shape = jax.eval_shape(agent.greedy, agent_state, obs).shape
        if shape != env.action_space.shape:
            raise ValueError(
                f"agent.greedy returns actions of shape {shape}, the environment takes "
                f"{env.action_space.shape}."
            )

        def running(carry):
            _, _, _, length, done = carry
            return ~done & (length < max_steps)

        def step(carry):
            env_state, obs, episode_return, length, _ = carry
            action = agent.greedy(agent_state, obs)
            # fold_in rather than a key in the carry: an environment that is
            # deterministic then derives no keys at all.
            key_step = jax.random.fold_in(key_steps, length)
            returned = env.step(env_state, action, key_step)
            env_state, time_step = check_step(env, returned)
            done = time_step.terminated | time_step.truncated
            episode_return = episode_return + time_step.reward
            return env_state, time_step.obs, episode_return, length + 1, done

        zero = jnp.zeros((), jnp.result_type(float))
        start = (env_state, obs, zero, jnp.zeros((), jnp.int32), jnp.bool_(False))
        _, _, episode_return, length, done = jax.lax.while_loop(running, step, start)
        return Evaluation(episode_return, length, done)

    return jax.vmap(episode)(random.split(key, num_episodes))


def _check_agent_state(agent, agent_state, env, key):
    """Raises unless the learned part of `agent_state` is of this agent and environment.

    Otherwise a table would be read beyond its end, where JAX returns its last row.
    """
    who = f"{type(agent).__name__}.init on this environment"
    remedy = (
        "Was it trained by another agent or on another environment? If it holds "
        "several seeds, vmap: jax.vmap(lambda s, k: rljax.evaluate(agent, s, env, k, "
        "…))(states, keys)"
    )
    made = jax.eval_shape(agent.init, key, env)
    for name in ("params", "q_values"):
        expected, given = getattr(made, name, None), getattr(agent_state, name, None)
        if jax.tree.structure(given) != jax.tree.structure(expected):
            raise TypeError(
                f"agent_state must have the {name} that {who} makes, got a "
                f"{type(agent_state).__name__} with others or none. {remedy}."
            )
        leaves = jax.tree_util.tree_leaves_with_path(given)
        for (path, leaf), shape in zip(leaves, jax.tree.leaves(expected), strict=True):
            if jnp.shape(leaf) != shape.shape:
                raise ValueError(
                    f"agent_state.{name}{jax.tree_util.keystr(path)} must have the "
                    f"shape {shape.shape} that {who} gives it, got {jnp.shape(leaf)}. "
                    f"{remedy}."
                )
