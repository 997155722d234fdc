"""Evaluation: whole episodes of the greedy policy."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, contract, random
from rljax.training import TrainState
from rljax.types import Agent, EnvLike


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
    env: EnvLike,
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
      agent_state: from training, `train_state.agent_state`. What `agent.learned` gives
        of it must have the shapes that `agent.init` makes in this environment.
      env: environment, not necessarily the one of training.
      key: random key.
      num_episodes: 1 or more.
      max_steps: steps after which an episode is given up, for environments without a
        limit of their own.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    contract.require(agent, env, key)
    if isinstance(agent_state, TrainState):
        raise TypeError(
            "agent_state must be the agent's own state, got a TrainState: pass "
            "train_state.agent_state."
        )
    num_episodes = checks.integer("num_episodes", num_episodes, minimum=1)
    max_steps = checks.integer(
        "max_steps", max_steps, minimum=1, maximum=checks.LARGEST_INT
    )
    return _evaluate(agent, agent_state, env, key, num_episodes, max_steps)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _evaluate(agent, agent_state, env, key, num_episodes, max_steps):
    _check_agent_state(agent, agent_state, env, key)

    def episode(key):
        key_reset, key_steps = jax.random.split(key)
        env_state, obs = contract.reset(env, key_reset)
        memory = agent.init_memory(agent_state)
        decide = functools.partial(agent.decide_greedily, agent_state)
        shape = jax.tree.map(jnp.shape, jax.eval_shape(decide, obs, memory)[0])
        if shape != env.action_space.shape:
            raise ValueError(
                f"agent.greedy returns actions of shape {shape}, the environment takes "
                f"{env.action_space.shape}."
            )

        def running(carry):
            *_, length, done = carry
            return ~done & (length < max_steps)

        def step(carry):
            env_state, obs, memory, episode_return, length, _ = carry
            action, memory = decide(obs, memory)
            # The key is folded in rather than carried, so that the compiler can drop it
            # where the environment is deterministic.
            noise = contract.draw_noise(env, (), jax.random.fold_in(key_steps, length))
            env_state, time_step = contract.advance(env, env_state, action, noise)
            done = time_step.terminated | time_step.truncated
            episode_return = episode_return + time_step.reward
            return env_state, time_step.obs, memory, episode_return, length + 1, done

        zero = jnp.zeros((), jnp.result_type(float))
        start = (zero, jnp.zeros((), jnp.int32), jnp.bool_(False))
        *_, episode_return, length, done = jax.lax.while_loop(
            running, step, (env_state, obs, memory, *start)
        )
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
    if not jax.tree_util.all_leaves([made]) and type(agent_state) is not type(made):
        raise TypeError(
            f"agent_state must have the type {type(made).__name__} that {who} makes, "
            f"got a {type(agent_state).__name__}. {remedy}."
        )
    expected, given = agent.learned(made), agent.learned(agent_state)
    if jax.tree.structure(given) != jax.tree.structure(expected):
        raise TypeError(
            f"agent_state must have the structure that {who} makes, "
            f"{jax.tree.structure(expected)}, got {jax.tree.structure(given)}. "
            f"{remedy}."
        )
    leaves = jax.tree_util.tree_leaves_with_path(given)
    for (path, leaf), shape in zip(leaves, jax.tree.leaves(expected), strict=True):
        if jnp.shape(leaf) != shape.shape:
            raise ValueError(
                f"agent_state{jax.tree_util.keystr(path)} must have the shape "
                f"{shape.shape} that {who} gives it, got {jnp.shape(leaf)}. {remedy}."
            )
