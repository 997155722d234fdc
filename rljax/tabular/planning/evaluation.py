"""The values of a given policy of a known MDP."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from rljax import checks
from rljax.distributions import greedy
from rljax.mdp import MDP, require_mdp
from rljax.tabular.planning import undiscounted
from rljax.tabular.planning.bellman import (
    check_values,
    extended_q_values,
    infinite_part,
    iterate,
    policy_sweep,
    q_values,
    solve,
)
from rljax.tabular.planning.plan import (
    Plan,
    bound_error,
    check,
    check_policy,
    check_solvable,
)


def policy_evaluation(
    mdp: MDP,
    policy: jax.Array,
    discount: jax.typing.ArrayLike,
    *,
    method: Literal["solve", "iterative"] = "solve",
    tolerance: jax.typing.ArrayLike = 1e-6,
    max_iterations: int = 100_000,
) -> Plan:
    """V^π and Q^π of any policy.

        V^π = R_π + γ P_π V^π

    At γ = 1 it is the total reward, V^π = E[Σ_t r⁺_t] − E[Σ_t r⁻_t] with r⁺ = max(r, 0)
    and r⁻ = max(−r, 0). It is +∞ or −∞ where the policy may go on for ever among
    rewards of one sign, and NaN, as ∞ − ∞ is, where it may do so among both, for
    instance +1 and −1 in turn. Everywhere else it is finite.

    Args:
      mdp: the process.
      policy: [S] integer actions, or [S, A] probabilities π(a|s).
      discount: γ in [0, 1].
      method: "solve" solves these S linear equations by elimination, in S³ operations;
        "iterative" sweeps V ← R_π + γ P_π V from V = 0, with value iteration's bound.
      tolerance: θ > 0 of "iterative", in units of value.
      max_iterations: sweeps after which to stop anyway.

    Returns:
      A `Plan` of V^π and Q^π. Its `policy` is not π but greedy with respect to Q^π,
      which is how policy iteration improves π.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Sutton and Barto (2018), §4.1; Puterman (1994), theorem 6.1.1 and §7.1.
    """
    return evaluate(mdp, policy, discount, method, tolerance, max_iterations)


def expected_return(
    mdp: MDP,
    policy: jax.Array,
    discount: jax.typing.ArrayLike,
    *,
    method: Literal["solve", "iterative"] = "solve",
    tolerance: jax.typing.ArrayLike = 1e-6,
) -> jax.Array:
    """J(π) = Σ_s ρ(s) V^π(s), exact: the discounted return from the initial states.

    Args:
      mdp: the process.
      policy: [S] integer actions, or [S, A] probabilities.
      discount: γ in [0, 1].
      method: as in `policy_evaluation`; "iterative" is exact to γ/(1−γ) · tolerance, at
        γ = 1 to no known number.
      tolerance: θ > 0 of "iterative".

    Returns:
      [] expected return; at γ = 1 it may be ±∞ or NaN, as V^π may.

    Raises:
      TypeError, ValueError: as `policy_evaluation`.
    """
    plan = evaluate(mdp, policy, discount, method, tolerance)
    return initial_value(mdp, plan.values)


def initial_value(mdp: MDP, values: jax.Array) -> jax.Array:
    """Σ_s ρ(s) V(s), [], of values [S] that may be infinite where ρ is 0.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    require_mdp(mdp)
    values = check_values(mdp, values)
    finite = jnp.where(jnp.isfinite(values), values, 0)
    return jnp.sum(mdp.initial * finite) + infinite_part(mdp.initial, values)


def evaluate(
    mdp: MDP,
    policy: jax.Array,
    discount: jax.typing.ArrayLike,
    method: str,
    tolerance: jax.typing.ArrayLike = 1e-6,
    max_iterations: int = 100_000,
    *,
    below_one: bool = False,
) -> Plan:
    """`policy_evaluation`, where a traced γ may be known to be less than 1."""
    check(mdp, discount=discount, tolerance=tolerance)
    policy = check_policy(mdp, policy)
    max_iterations = checks.integer("max_iterations", max_iterations, minimum=1)
    may_be_one = not below_one and undiscounted.possible(mdp, discount)
    if method == "iterative":
        return _iterative(mdp, policy, discount, tolerance, max_iterations, may_be_one)
    if method != "solve":
        raise ValueError(f"method must be 'solve' or 'iterative', got {method!r}.")
    check_solvable(mdp)
    return _solved(mdp, policy, discount, may_be_one)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _iterative(mdp, policy, discount, tolerance, max_iterations, may_be_one):
    discount = jnp.asarray(discount, mdp.rewards.dtype)
    solvable, infinite = undiscounted.settle(mdp, policy, discount, may_be_one)
    values = jnp.zeros_like(mdp.rewards, shape=mdp.num_states)
    sweep = policy_sweep(solvable, policy, discount)
    values, count, change = iterate(sweep, values, tolerance, max_iterations)
    values, q = _with_infinite(mdp, values, infinite, discount)
    factor = discount / (1 - discount)
    return _plan(mdp, values, q, discount, count, change, factor, may_be_one)


@functools.partial(jax.jit, static_argnums=3)
def _solved(mdp, policy, discount, may_be_one):
    discount = jnp.asarray(discount, mdp.rewards.dtype)
    values, q, residual = exact_values(mdp, policy, discount, may_be_one)
    count, factor = jnp.ones((), jnp.int32), 1 / (1 - discount)
    return _plan(mdp, values, q, discount, count, residual, factor, may_be_one)


def exact_values(
    mdp: MDP, policy: jax.Array, discount: jax.Array, may_be_one: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """V^π [S], Q^π [S, A] and max|T_π V − V| [], where it is finite, by elimination."""
    solvable, infinite = undiscounted.settle(mdp, policy, discount, may_be_one)
    values = solve(solvable, policy, discount)
    gaps = policy_sweep(solvable, policy, discount)(values) - values
    values, q = _with_infinite(mdp, values, infinite, discount)
    return values, q, jnp.max(jnp.abs(gaps))


def _with_infinite(mdp, values, infinite, discount):
    if infinite is None:
        return values, q_values(mdp, values, discount)
    values = values + infinite
    return values, extended_q_values(mdp, values, discount)


def _plan(mdp, values, q, discount, count, residual, factor, may_be_one):
    policy, certain = greedy(q), True
    if may_be_one:
        policy, _ = undiscounted.conserving_policy(mdp, q, values, discount)
        certain = jnp.all(jnp.isfinite(values))
    bound = bound_error(factor, residual, certain)
    return Plan(values, q, policy, count, residual, bound)
