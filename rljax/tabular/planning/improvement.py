"""The best policy of a known MDP: by values, by policies, or by both in turn."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from rljax import checks
from rljax.distributions import greedy
from rljax.mdp import MDP
from rljax.tabular.planning import undiscounted
from rljax.tabular.planning.bellman import (
    expectation,
    iterate,
    policy_sweep,
    q_values,
)
from rljax.tabular.planning.evaluation import exact_values
from rljax.tabular.planning.plan import Plan, bound_error, check, check_solvable


def value_iteration(
    mdp: MDP,
    discount: jax.typing.ArrayLike,
    tolerance: jax.typing.ArrayLike = 1e-6,
    *,
    method: Literal["synchronous", "gauss_seidel"] = "synchronous",
    max_iterations: int = 100_000,
) -> Plan:
    """Sweeps V ← TV until no value changes by as much as `tolerance`.

        (TV)(s) = max_a [R(s,a) + γ Σ_s' P(s'|s,a) V(s')]

    starting from V = 0, or at γ = 1 from the values of a policy that surely ends or
    rests, see `rljax.planning`. T is a contraction by γ in the maximum norm, so if r is
    the last change, max|V − V*| ≤ γ/(1−γ) r. Gauss–Seidel sweeps update the states in
    order and in place, so that each state sees the new values of those before it. The
    bound holds for them too. They may need fewer sweeps, but each is slower, because it
    can't run in parallel. The value of the greedy policy falls short of V* by at most
    2γ/(1−γ) times the error of V; at γ = 1 it is no less than V if the policy surely
    ends or rests.

    Args:
      mdp: the process.
      discount: γ in [0, 1].
      tolerance: θ > 0, in units of value.
      method: "synchronous" or "gauss_seidel".
      max_iterations: sweeps after which to stop anyway; `residual` then shows it.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Bellman (1957); Puterman (1994), §6.3; Sutton and Barto (2018), §4.4.
    """
    check(mdp, discount=discount, tolerance=tolerance)
    if method not in ("synchronous", "gauss_seidel"):
        raise ValueError(
            f"method must be 'synchronous' or 'gauss_seidel', got {method!r}."
        )
    max_iterations = checks.integer("max_iterations", max_iterations, minimum=1)
    may_be_one = undiscounted.possible(mdp, discount)
    return _value_iteration(
        mdp, discount, tolerance, method, max_iterations, may_be_one
    )


def policy_iteration(
    mdp: MDP, discount: jax.typing.ArrayLike, *, max_iterations: int = 1_000
) -> Plan:
    """Evaluates a policy exactly and improves it until no action is better.

    It starts from the lowest action everywhere, or at γ = 1 from a policy that surely
    ends or rests, see `rljax.planning`. An action is replaced only by one that is
    better by more than rounding errors, so that ties can't make it cycle for ever, nor
    at γ = 1 lose its end.

    Args:
      mdp: the process, with at most 10,000 states, as each step solves S equations.
      discount: γ in [0, 1].
      max_iterations: evaluations after which to stop anyway.

    Returns:
      The plan of the last policy's values; max|V − V*| ≤ residual / (1−γ). At γ = 1,
      `policy` is that policy itself.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Howard (1960); Puterman (1994), §6.4.
    """
    check(mdp, discount=discount)
    check_solvable(mdp)
    max_iterations = checks.integer("max_iterations", max_iterations, minimum=1)
    may_be_one = undiscounted.possible(mdp, discount)
    return _policy_iteration(mdp, discount, max_iterations, may_be_one)


def modified_policy_iteration(
    mdp: MDP,
    discount: jax.typing.ArrayLike,
    tolerance: jax.typing.ArrayLike = 1e-6,
    *,
    num_sweeps: int = 20,
    max_iterations: int = 100_000,
) -> Plan:
    """Alternates between improving a policy and `num_sweeps` sweeps to evaluate it.

        π ← greedy(V),   V ← T_π^m V

    starting where value iteration does, until max|TV − V| < tolerance. A sweep under a
    fixed policy costs 1/A of a sweep of value iteration, and no equations are solved.

    Args:
      mdp: the process.
      discount: γ in [0, 1].
      tolerance: θ > 0, in units of value.
      num_sweeps: m, at least 1; 1 is value iteration.
      max_iterations: improvements after which to stop anyway.

    Returns:
      The plan; max|V − V*| ≤ residual / (1−γ).

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Puterman and Shin (1978); Puterman (1994), §6.5.
    """
    check(mdp, discount=discount, tolerance=tolerance)
    num_sweeps = checks.integer("num_sweeps", num_sweeps, minimum=1)
    max_iterations = checks.integer("max_iterations", max_iterations, minimum=1)
    may_be_one = undiscounted.possible(mdp, discount)
    return _modified_policy_iteration(
        mdp, discount, tolerance, num_sweeps, max_iterations, may_be_one
    )


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _value_iteration(mdp, discount, tolerance, method, max_iterations, may_be_one):
    discount = jnp.asarray(discount, mdp.rewards.dtype)
    start = undiscounted.start(mdp, discount, may_be_one)
    mdp = start.mdp

    def synchronous(values):
        return jnp.max(q_values(mdp, values, discount), axis=-1)

    def gauss_seidel(values):
        def update(state, values):
            transitions = jax.tree.map(lambda x: x[state], mdp.transitions)
            q = mdp.rewards[state] + discount * expectation(transitions, values)
            value = jnp.where(mdp.terminal[state], 0, jnp.max(q))
            return values.at[state].set(value)

        return jax.lax.fori_loop(0, mdp.num_states, update, values)

    sweep = synchronous if method == "synchronous" else gauss_seidel
    values = undiscounted.start_values(start, discount, max_iterations)
    values, count, change = iterate(sweep, values, tolerance, max_iterations)
    q = q_values(mdp, values, discount)
    factor = discount / (1 - discount)
    return _greedy_plan(start, values, q, discount, count, change, factor)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _policy_iteration(mdp, discount, max_iterations, may_be_one):
    discount = jnp.asarray(discount, mdp.rewards.dtype)
    start = undiscounted.start(mdp, discount, may_be_one)
    states = jnp.arange(mdp.num_states)

    def going(carry):
        _, _, _, count, changed = carry
        return (count < max_iterations) & changed

    def step(carry):
        policy, _, _, count, _ = carry
        values, q, _ = exact_values(start.mdp, policy, discount, may_be_one)
        best = greedy(jnp.where(jnp.isnan(q), -jnp.inf, q))
        noise = undiscounted.rounding_noise(values)
        better = q[states, best] > q[states, policy] + noise
        improved = jnp.where(better, best, policy)
        return improved, values, q, count + 1, jnp.any(better)

    zeros = jnp.zeros_like(mdp.rewards)
    carry = (
        start.policy,
        zeros[:, 0],
        zeros,
        jnp.zeros((), jnp.int32),
        jnp.bool_(True),
    )
    policy, values, q, count, _ = jax.lax.while_loop(going, step, carry)
    residual, factor = _bellman_residual(values, q), 1 / (1 - discount)
    policy = jnp.where(discount == 1, policy, greedy(q))
    return _plan(start, values, q, policy, True, count, residual, factor)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _modified_policy_iteration(
    mdp, discount, tolerance, num_sweeps, max_iterations, may_be_one
):
    discount = jnp.asarray(discount, mdp.rewards.dtype)
    start = undiscounted.start(mdp, discount, may_be_one)
    mdp = start.mdp

    def going(carry):
        values, _, count, residual = carry
        # A wider margin than in `iterate`: sweeps under a policy add in another order
        # than TV does, so the residual may stay some rounding units above 0.
        rounding = undiscounted.rounding_noise(values)
        settled = (residual < tolerance) | (residual <= rounding)
        return (count < max_iterations) & ~settled

    def step(carry):
        values, q, count, _ = carry
        # The first sweep under the greedy policy gives TV, which is max_a Q(s,a).
        sweep = policy_sweep(mdp, greedy(q), discount)
        values = jax.lax.fori_loop(
            1, num_sweeps, lambda _, v: sweep(v), jnp.max(q, axis=-1)
        )
        q = q_values(mdp, values, discount)
        return values, q, count + 1, _bellman_residual(values, q)

    values = undiscounted.start_values(start, discount, max_iterations)
    q = q_values(mdp, values, discount)
    residual = jnp.full((), jnp.inf, values.dtype)
    carry = (values, q, jnp.zeros((), jnp.int32), residual)
    values, q, count, residual = jax.lax.while_loop(going, step, carry)
    factor = 1 / (1 - discount)
    return _greedy_plan(start, values, q, discount, count, residual, factor)


def _bellman_residual(values, q):
    """max|TV − V|, where equal infinities differ by 0."""
    best = jnp.max(q, axis=-1)
    return jnp.max(jnp.where(best == values, 0, jnp.abs(best - values)))


def _greedy_plan(start, values, q, discount, count, residual, factor):
    policy, sure = greedy(q), True
    if start.lost is not None:
        policy, sure = undiscounted.conserving_policy(start.mdp, q, values, discount)
    return _plan(start, values, q, policy, sure, count, residual, factor)


def _plan(start, values, q, policy, sure, count, residual, factor):
    """The plan, with what `start` left out put back at what it is worth."""
    if start.lost is not None:
        q = jnp.where((start.lost == 0)[:, None], q, -jnp.inf)
        q = jnp.where(jnp.isneginf(q), jnp.min(start.lost), q)
        values = values + start.lost
        sure = jnp.all(sure & jnp.isfinite(values))
    bound = bound_error(factor, residual, sure)
    return Plan(values, q, policy, count, residual, bound)
