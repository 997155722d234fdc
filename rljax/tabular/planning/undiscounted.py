"""Planning at γ = 1: where it starts, what the graph decides, and how ties are broken.

A state is *lost* if no policy surely ends or rests from it, see `rljax.planning`.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax.distributions import greedy
from rljax.mdp import MDP
from rljax.tabular.planning.bellman import (
    chain,
    iterate,
    over_actions,
    policy_sweep,
)
from rljax.tabular.planning.reachability import can_reach, ending_policy, leads_to


def possible(mdp: MDP, discount: Any) -> bool:
    """Whether γ is 1 in the dtype of the rewards, or is traced, so that it may be."""
    if isinstance(discount, Tracer):
        return True
    return bool(np.asarray(discount, mdp.rewards.dtype) == 1)


class Start(NamedTuple):
    """Where planning starts."""

    mdp: MDP
    """The process, in which lost states are terminal and actions that may lead to them
    have the reward −∞."""
    policy: jax.Array
    """[S] int32: a policy that surely ends or rests; at γ < 1, the lowest action."""
    lost: jax.Array | None
    """[S] V* of lost states, and 0 elsewhere. None if γ is known to be less than 1."""


def start(mdp: MDP, discount: jax.Array, may_be_one: bool) -> Start:
    """The start of planning. At γ < 1, no state is lost."""
    if not may_be_one:
        return Start(mdp, jnp.zeros(mdp.num_states, jnp.int32), None)
    undiscounted = discount == 1
    every_action = jnp.ones_like(mdp.rewards, bool)
    policy, sure = ending_policy(mdp, every_action, ~mdp.terminal, undiscounted)
    astray = leads_to(mdp.transitions, ~sure)
    rewards = jnp.where(astray, -jnp.inf, mdp.rewards)
    # Not dataclasses.replace: it would check the rewards where nothing is traced.
    fields = (mdp.transitions, rewards, mdp.terminal | ~sure, mdp.initial)
    avoiding = jax.tree.unflatten(jax.tree.structure(mdp), jax.tree.leaves(fields))
    earning = jnp.any((mdp.rewards > 0) & ~sure[:, None])
    lost = jnp.where(sure, 0, jnp.where(earning, jnp.nan, -jnp.inf))
    return Start(
        avoiding, jnp.where(undiscounted, policy, 0), lost.astype(rewards.dtype)
    )


def start_values(start: Start, discount: jax.Array, max_iterations: int) -> jax.Array:
    """[S] V of the policy with which planning starts; at γ < 1, 0."""
    values = jnp.zeros_like(start.mdp.rewards, shape=start.mdp.num_states)
    if start.lost is None:
        return values
    # Until changes are rounding errors, so that V ≤ TV but for those.
    sweep = policy_sweep(start.mdp, start.policy, discount)
    limit = jnp.where(discount == 1, max_iterations, 0)
    return iterate(sweep, values, 0.0, limit)[0]


def settle(
    mdp: MDP, policy: jax.Array, discount: jax.Array, may_be_one: bool
) -> tuple[MDP, jax.Array | None]:
    """The values of a policy at γ = 1 that the graph of its chain decides.

    Rewards of one sign may go on for ever if the chain can come to a state from which
    it can reach no state that has no such reward ahead.

    Returns:
      The process in which the states so decided are terminal: those with an infinite or
      undefined value, and those with no reward ahead. The chain can reach them, or an
      end, from every other state, so that Bellman's equation has one solution there.
      And what to add to that solution: [S] ±∞ or NaN, and 0 elsewhere. At γ < 1,
      nothing is decided; None stands for 0 if γ is known to be less than 1.
    """
    if not may_be_one:
        return mdp, None
    undiscounted = discount == 1
    transitions = chain(mdp, policy)
    signs = jnp.stack([mdp.rewards > 0, mdp.rewards < 0]).astype(float)
    taken = jax.vmap(over_actions, (None, 0))(policy, signs) > 0
    reaching = jax.vmap(
        functools.partial(can_reach, transitions, mdp.terminal, active=undiscounted)
    )

    def step(states, _):
        reached = reaching(~states)
        return reached, reached

    # ahead = reaching(taken), leaving = reaching(~ahead), endless = reaching(~leaving):
    # one loop compiles faster than three.
    taken &= (~mdp.terminal & undiscounted)[None]
    _, (ahead, _, endless) = jax.lax.scan(step, ~taken, length=3)
    gains, losses = endless
    infinite = jnp.where(gains, jnp.inf, 0) + jnp.where(losses, -jnp.inf, 0)
    settled = undiscounted & (jnp.any(endless, axis=0) | ~jnp.any(ahead, axis=0))
    solvable = dataclasses.replace(mdp, terminal=mdp.terminal | settled)
    return solvable, infinite.astype(mdp.rewards.dtype)


def conserving_policy(
    mdp: MDP, q_values: jax.Array, values: jax.Array, discount: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The greedy policy, in which at γ = 1 ties go to actions that surely lead on.

    It is then conserving, as each action attains the largest Q(s,a), and equalizing, as
    it surely ends or rests, in the latter case where V(s) = 0; so it attains V.

    Returns:
      The policy, [S] int32; and from where it is so, [S] bool. Elsewhere, and at γ < 1,
      ties go to the lowest action.

    Source: Puterman (1994), §7.1.3 and 7.2.
    """
    undiscounted = discount == 1
    q_values = jnp.where(jnp.isnan(q_values), -jnp.inf, q_values)
    noise = rounding_noise(values)
    best = jnp.max(q_values, axis=-1, keepdims=True)
    policy, sure = ending_policy(
        mdp, q_values >= best - noise, jnp.abs(values) <= noise, undiscounted
    )
    return jnp.where(undiscounted & sure, policy, greedy(q_values)), sure


def rounding_noise(values: jax.Array) -> jax.Array:
    """[] by how much equal action values may differ, as they round."""
    finite = jnp.where(jnp.isfinite(values), values, 0)
    return 8 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(finite))
