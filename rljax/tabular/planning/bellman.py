"""Bellman's equations of a finite MDP: their operators, sweeps and solutions.

Shape letters: S states, A actions, K outcomes. Values are finite, unless a function
says otherwise. Transitions given as a list of outcomes (`types.SparseTransitions`)
become dense only to solve equations.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rljax import checks
from rljax.mdp import MDP, SparseTransitions, require_mdp


def q_values(mdp: MDP, values: jax.Array, discount: jax.typing.ArrayLike) -> jax.Array:
    """Q(s,a) = R(s,a) + γ Σ_s' P(s'|s,a) V(s'), and 0 at terminal states.

    Args:
      mdp: the process.
      values: [S] V, finite; the entries of terminal states are ignored.
      discount: γ in [0, 1].

    Returns:
      [S, A].

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    require_mdp(mdp)
    values = jnp.where(mdp.terminal, 0, check_values(mdp, values))
    discount = checks.scalar(0.0, 1.0, discount=discount)
    expected = expectation(mdp.transitions, values)
    return jnp.where(mdp.terminal[:, None], 0, mdp.rewards + discount * expected)


def check_values(mdp: MDP, values: Any) -> jax.Array:
    """`values` as an array. Raises TypeError or ValueError unless it is [S] numbers."""
    (array,) = checks.floating(values=values)
    if jnp.shape(array) != (mdp.num_states,):
        raise ValueError(
            f"values must have shape [{mdp.num_states}], one for each state, got "
            f"{list(jnp.shape(array))}."
        )
    return array


def expectation(transitions: jax.Array | SparseTransitions, values: jax.Array) -> Any:
    """Σ_s' P(s'|…) V(s') for transitions [..., S] or outcomes [..., K]."""
    if isinstance(transitions, SparseTransitions):
        return jnp.sum(
            transitions.probabilities * values[transitions.next_states], axis=-1
        )
    # The default multiplication of accelerators rounds to three digits.
    return jnp.matmul(transitions, values, precision=jax.lax.Precision.HIGHEST)


def infinite_part(transitions: jax.Array | SparseTransitions, values: jax.Array) -> Any:
    """Σ_s' P(s'|…) V(s') over the successors whose value is ±∞ or NaN.

    A successor of probability 0 does not count, and ∞ − ∞ is NaN.
    """
    if isinstance(transitions, SparseTransitions):
        weights = transitions.probabilities
        successors = values[transitions.next_states]
    else:
        weights, successors = transitions, jnp.broadcast_to(values, transitions.shape)
    counted = (weights > 0) & ~jnp.isfinite(successors)
    return jnp.sum(jnp.where(counted, successors, 0), axis=-1)


def extended_q_values(
    mdp: MDP, values: jax.Array, discount: jax.typing.ArrayLike
) -> jax.Array:
    """`q_values` of values that may be infinite or undefined, [S, A]."""
    finite = q_values(mdp, jnp.where(jnp.isfinite(values), values, 0), discount)
    infinite = infinite_part(mdp.transitions, values)
    return finite + jnp.where(mdp.terminal[:, None], 0, infinite)


def over_actions(policy: jax.Array, numbers: jax.Array) -> jax.Array:
    """Σ_a π(a|s) x(s,a), [S], of numbers [S, A]."""
    if policy.ndim == 2:
        return jnp.sum(policy * numbers, axis=-1)
    return numbers[jnp.arange(len(policy)), policy]


def chain(mdp: MDP, policy: jax.Array) -> Any:
    """P_π, the transitions [S, S] or outcomes [S, ·] of the chain under a policy."""
    if policy.ndim == 1:
        states = jnp.arange(mdp.num_states)
        return jax.tree.map(lambda x: x[states, policy], mdp.transitions)
    if isinstance(mdp.transitions, SparseTransitions):
        probabilities = policy[..., None] * mdp.transitions.probabilities
        flat = (mdp.num_states, -1)
        return SparseTransitions(
            mdp.transitions.next_states.reshape(flat), probabilities.reshape(flat)
        )
    return jnp.einsum(
        "sa,sat->st", policy, mdp.transitions, precision=jax.lax.Precision.HIGHEST
    )


def policy_sweep(
    mdp: MDP, policy: jax.Array, discount: jax.typing.ArrayLike
) -> Callable[[jax.Array], jax.Array]:
    """The function V ↦ R_π + γ P_π V."""
    transitions, rewards = chain(mdp, policy), over_actions(policy, mdp.rewards)

    def sweep(values):
        expected = expectation(transitions, jnp.where(mdp.terminal, 0, values))
        return jnp.where(mdp.terminal, 0, rewards + discount * expected)

    return sweep


def iterate(
    sweep: Callable[[jax.Array], jax.Array],
    values: jax.Array,
    tolerance: jax.typing.ArrayLike,
    max_iterations: jax.typing.ArrayLike,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sweeps from `values`; returns (V, number of sweeps, last change)."""
    epsilon = jnp.finfo(values.dtype).eps

    def going(carry):
        values, count, change = carry
        # Changes within one rounding unit of the largest value may go on for ever.
        rounding = epsilon * jnp.max(jnp.abs(values))
        return (count < max_iterations) & ~((change < tolerance) | (change <= rounding))

    def step(carry):
        values, count, _ = carry
        new = sweep(values)
        return new, count + 1, jnp.max(jnp.abs(new - values))

    start = (values, jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, values.dtype))
    return jax.lax.while_loop(going, step, start)


def solve(mdp: MDP, policy: jax.Array, discount: jax.typing.ArrayLike) -> jax.Array:
    """Solves (I − γ P_π) V = R_π by Gauss–Jordan elimination.

    No pivoting is needed if γ < 1, or if a terminal state can be reached from every
    state. The diagonal is not stored, but summed anew from the rest of its row,

        1 − γ P(s|s) = γ Σ_s'≠s P(s'|s) + c(s),   c(s) = 1 − γ Σ_s' P(s'|s)

    with sums over s' that are not terminal. Of these numbers, c is another column. All
    of them keep their signs, so nothing cancels, however long the episodes are.

    There are two reasons against jnp.linalg.solve. Under vmap on more than one CPU
    device, its calls of LAPACK can deadlock (with jaxlib 0.10.2 in 12 of 15 cold
    starts). And on an accelerator it solves the many small systems of vmapped seeds one
    after another.

    Source: Grassmann, Taksar and Heyman (1985), "Regenerative Analysis and Steady State
    Distributions for Markov Chains".
    """
    num_states = mdp.num_states
    transitions, rewards = chain(mdp, policy), over_actions(policy, mdp.rewards)
    if isinstance(transitions, SparseTransitions):
        transitions = transitions.dense(num_states)
    identity = jnp.eye(num_states, dtype=rewards.dtype)
    transitions = jnp.where(mdp.terminal[:, None], identity, transitions)
    rewards = jnp.where(mdp.terminal, 0, rewards)
    weights = jnp.where(mdp.terminal, 0, discount)
    leaving = expectation(transitions, 1 - weights) + _deficit(transitions)
    augmented = -jnp.concatenate(
        [transitions * weights[None, :], leaving[:, None], -rewards[:, None]], axis=1
    )

    def eliminate(pivot, augmented):
        row = augmented[pivot].at[pivot].set(0)
        row = row / -jnp.sum(row[:-1])
        column = augmented[:, pivot, None]
        others = augmented.at[:, pivot].set(0) - column * row[None, :]
        return others.at[pivot].set(row)

    return jax.lax.fori_loop(0, num_states, eliminate, augmented)[:, -1]


def _deficit(transitions):
    """1 − Σ_s' P(s'|s), [S]; 0 where it is no more than the rounding of S numbers."""
    deficit = 1 - jnp.sum(transitions, axis=-1)
    small = jnp.abs(deficit) < len(deficit) * jnp.finfo(deficit.dtype).eps
    # The derivative is that of the deficit all the same.
    return deficit - jax.lax.stop_gradient(jnp.where(small, deficit, 0))
