"""Which states lead where: questions about the graph of an MDP or of a chain.

An edge is a transition of positive probability, however small. The answers are least
and greatest fixed points of sets of states [S] bool, found in at most as many steps as
there are states; one by each step of a breadth-first search, for the first kind.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rljax.mdp import MDP
from rljax.tabular.planning.bellman import expectation


def leads_to(transitions: Any, states: jax.Array) -> jax.Array:
    """[...] bool: whether the next state may be one of `states` [S] bool."""
    return expectation(transitions, states.astype(float)) > 0


def can_reach(
    transitions: Any, terminal: jax.Array, states: jax.Array, active: jax.Array
) -> jax.Array:
    """From where a chain that stops in terminal states may reach some states.

    Args:
      transitions: [S, S] or outcomes [S, K] of the chain.
      terminal: [S] bool.
      states: [S] bool.
      active: [] bool; where it isn't, `states` are returned as they are.

    Returns:
      [S] bool.
    """

    def step(carry):
        reached, _ = carry
        further = reached | (leads_to(transitions, reached) & ~terminal)
        return further, jnp.any(further != reached)

    return jax.lax.while_loop(lambda carry: carry[1], step, (states, active))[0]


def resting_states(
    mdp: MDP, actions: jax.Array, states: jax.Array, active: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The states from which `actions` can go on for ever, or end, without any reward.

    Args:
      mdp: the process.
      actions: [S, A] bool, those that may be taken.
      states: [S] bool, those that may be visited.
      active: [] bool; where it isn't, `states` are returned as they are.

    Returns:
      The states [S], the largest set of those with an action that keeps to it; and
      these actions [S, A].
    """
    silent = actions & (mdp.rewards == 0)

    def keeping(inside):
        return silent & ~leads_to(mdp.transitions, ~(inside | mdp.terminal))

    def step(carry):
        inside, _ = carry
        smaller = inside & jnp.any(keeping(inside), axis=-1)
        return smaller, jnp.any(smaller != inside)

    start = (states & ~mdp.terminal, active)
    inside, _ = jax.lax.while_loop(lambda carry: carry[1], step, start)
    return inside, keeping(inside)


def ending_policy(
    mdp: MDP, actions: jax.Array, resting: jax.Array, active: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A policy of `actions` that surely ends, or comes to rest without rewards.

    Backwards from the states where it ends or rests, each state takes the lowest action
    that may lead one step nearer and that never leads to where an end isn't sure. So
    from every state it has a chance to be there within S steps, and will once be.

    Args:
      mdp: the process.
      actions: [S, A] bool, those that may be taken.
      resting: [S] bool, the states in which it may rest.
      active: [] bool; where it isn't, nothing is searched and every state is returned.

    Returns:
      The policy, [S] int32; and from where it surely ends or rests, [S] bool. There is
      no policy that does so from elsewhere.

    Source: Baier and Katoen (2008), "Principles of Model Checking", §10.6.1.
    """
    resting, keeping = resting_states(mdp, actions, resting, active)
    target = mdp.terminal | resting

    def step(carry):
        policy, sure, reached, _ = carry
        safe = actions & ~leads_to(mdp.transitions, ~sure)
        nearer = safe & leads_to(mdp.transitions, reached)
        new = jnp.any(nearer, axis=-1) & ~reached
        policy = jnp.where(new, _lowest(nearer), policy)
        # Once nothing is added, what was not reached is not sure: without it, again.
        complete = ~jnp.any(new)
        going = ~(complete & jnp.all(reached == sure))
        sure = jnp.where(complete, reached, sure)
        return policy, sure, jnp.where(complete, target, reached | new), going

    everywhere = jnp.ones_like(mdp.terminal)
    start = (_lowest(keeping), everywhere, target, active)
    policy, sure, _, _ = jax.lax.while_loop(lambda carry: carry[3], step, start)
    return policy, sure


def _lowest(actions: jax.Array) -> jax.Array:
    return jnp.argmax(actions, axis=-1).astype(jnp.int32)
