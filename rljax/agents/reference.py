"""What agents share that pay a price for leaving a frozen reference policy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rljax import kl_control
from rljax.types import Transition


class ReferenceState(NamedTuple):
    """Everything that such an agent learns or counts, and what it is held to."""

    params: Any
    opt_state: optax.OptState
    num_updates: jax.Array
    """[] int32: calls of `update` so far."""
    reference_params: Any
    """Of π_ref; never changed."""
    kl_coef: jax.Array
    """[] floating: β of the next update, where it is adapted."""


def start(agent: Any, params: Any, optimizer: Any) -> ReferenceState:
    """The state at first, from parameters just drawn or, if given, the reference's.

    Raises:
      ValueError: the agent's `reference` has not the structure of its parameters.
    """
    if agent.reference is not None:
        check_reference(agent, params)
        params = jax.tree.map(
            lambda x, y: jnp.asarray(x, y.dtype), agent.reference, params
        )
    kl_coef = jnp.asarray(agent.kl_coef, jnp.result_type(float))
    return ReferenceState(
        params, optimizer.init(params), jnp.zeros((), jnp.int32), params, kl_coef
    )


def check_reference(agent: Any, params: Any) -> None:
    """Raises ValueError unless `agent.reference` is a tree like `params`."""

    def shapes(tree):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}

    given, own = shapes(agent.reference), shapes(params)
    alike = jax.tree.structure(agent.reference) == jax.tree.structure(params)
    if given != own or not alike:
        raise ValueError(
            f"{type(agent).__name__}.reference must be parameters as the agent's own "
            f"network has them, {own}, got {given}. Take them from the agent_state of "
            "an agent with the same network."
        )


def kl_coef(agent: Any, state: ReferenceState) -> Any:
    """β in force: the agent's, or the state's where it is adapted."""
    return agent.kl_coef if agent.kl_target is None else state.kl_coef


def next_kl_coef(agent: Any, coef: Any, episode_kl: jax.Array) -> jax.Array:
    """β of the next update."""
    if agent.kl_target is not None:
        coef = kl_control.adapted_kl_coef(
            coef, episode_kl, agent.kl_target, agent.kl_rate
        )
    return jnp.asarray(coef, jnp.result_type(float))


def penalize(
    agent: Any, trajectory: Transition, logits: Any, reference_logits: Any, coef: Any
) -> jax.Array:
    """[T, N] rewards, less the price of the KL where it is paid there."""
    if agent.kl_in == "loss":
        return trajectory.reward
    kl = kl_control.kl_estimates(
        logits, reference_logits, trajectory.action, agent.kl_estimator
    )
    over_envs = jax.vmap(
        kl_control.penalized_rewards, in_axes=(1, 1, 1, 1, None, None), out_axes=1
    )
    return over_envs(
        trajectory.reward,
        kl,
        trajectory.terminated,
        trajectory.truncated,
        coef,
        agent.credit,
    )
