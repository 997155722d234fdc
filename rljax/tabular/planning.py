"""Planning: values and best policies of a known MDP.

Shape letters: S states, A actions. The algorithms are jitted, and can be vmapped over
discounts and over stacked MDPs. The value of a terminal state is 0. Transitions given
as a list of outcomes (`types.SparseTransitions`) become dense only to solve equations.

The error bounds hold in exact arithmetic. If the tolerance is below the rounding errors
of the dtype, iterations stop once changes are as small as those, and `residual` tells
how close they came. Smaller tolerances need x64.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks
from rljax.distributions import greedy
from rljax.mdp import MDP, SparseTransitions, are_distributions

_MAX_SOLVED_STATES = 10_000


class Plan(NamedTuple):
    """Values, and a policy that is greedy with respect to them."""

    values: jax.Array
    """[S] V(s); 0 at terminal states."""
    q_values: jax.Array
    """[S, A] Q(s,a) = R(s,a) + γ Σ_s' P(s'|s,a) V(s'); 0 at terminal states."""
    policy: jax.Array
    """[S] int32 argmax_a Q(s,a), ties to the lowest action."""
    num_iterations: jax.Array
    """[] int32: number of sweeps, of policies evaluated, or of improvements."""
    residual: jax.Array
    """[] max_s of: the last change of V (value iteration, iterative evaluation),
    |T_π V − V| (solved evaluation) or |TV − V| (both kinds of policy iteration)."""
    error_bound: jax.Array
    """[] bound on max_s |V(s) − V_true(s)| that follows from the residual. At γ = 1
    none follows: it is infinite, or 0 if the residual is 0."""


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

    starting from V = 0. T is a contraction by γ in the maximum norm, so if r is the
    last change, max|V − V*| ≤ γ/(1−γ) r. Gauss–Seidel sweeps update the states in order
    and in place, so that each state sees the new values of those before it. The bound
    holds for them too. They may need fewer sweeps, but each is slower, because it can't
    run in parallel. The value of the greedy policy falls short of V* by at most
    2γ/(1−γ) times the error of V.

    Args:
      mdp: the process.
      discount: γ in [0, 1]. At 1, V need not converge unless good policies terminate.
      tolerance: θ > 0, in units of value.
      method: "synchronous" or "gauss_seidel".
      max_iterations: sweeps after which to stop anyway; `residual` then shows it.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Bellman (1957); Puterman (1994), §6.3; Sutton and Barto (2018), §4.4.
    """
    _check(mdp, discount=discount, tolerance=tolerance)
    if method not in ("synchronous", "gauss_seidel"):
        raise ValueError(
            f"method must be 'synchronous' or 'gauss_seidel', got {method!r}."
        )
    max_iterations = checks.integer("max_iterations", max_iterations, minimum=1)
    return _value_iteration(mdp, discount, tolerance, method, max_iterations)


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

    Args:
      mdp: the process.
      policy: [S] integer actions, or [S, A] probabilities π(a|s).
      discount: γ, in [0, 1) to solve, [0, 1] to iterate.
      method: "solve" solves these S linear equations by elimination, in S³ operations;
        "iterative" sweeps V ← R_π + γ P_π V from V = 0, with value iteration's bound.
      tolerance: θ > 0 of "iterative", in units of value.
      max_iterations: sweeps after which to stop anyway.

    Returns:
      A `Plan` of V^π and Q^π. Its `policy` is not π but greedy with respect to Q^π,
      which is how policy iteration improves π.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Sutton and Barto (2018), §4.1; Puterman (1994), theorem 6.1.1.
    """
    _check(mdp, discount=discount, tolerance=tolerance)
    policy = _check_policy(mdp, policy)
    max_iterations = checks.integer("max_iterations", max_iterations, minimum=1)
    if method == "iterative":
        return _evaluate_iteratively(mdp, policy, discount, tolerance, max_iterations)
    if method != "solve":
        raise ValueError(f"method must be 'solve' or 'iterative', got {method!r}.")
    check_solvable(mdp, discount)
    return _solve(mdp, policy, discount)


def policy_iteration(
    mdp: MDP, discount: jax.typing.ArrayLike, *, max_iterations: int = 1_000
) -> Plan:
    """Evaluates a policy exactly and improves it until no action is better.

    It starts from the lowest action everywhere. An action is replaced only by one that
    is better by more than rounding errors, so that ties can't make it cycle for ever.

    Args:
      mdp: the process, with at most 10,000 states, as each step solves S equations.
      discount: γ in [0, 1).
      max_iterations: evaluations after which to stop anyway.

    Returns:
      The plan of the last policy's values; max|V − V*| ≤ residual / (1−γ).

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Howard (1960); Puterman (1994), §6.4.
    """
    _check(mdp, discount=discount)
    check_solvable(mdp, discount)
    max_iterations = checks.integer("max_iterations", max_iterations, minimum=1)
    return _policy_iteration(mdp, discount, max_iterations)


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

    starting from V = 0, until max|TV − V| < tolerance. A sweep under a fixed policy
    costs 1/A of a sweep of value iteration, and no equations are solved.

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
    _check(mdp, discount=discount, tolerance=tolerance)
    num_sweeps = checks.integer("num_sweeps", num_sweeps, minimum=1)
    max_iterations = checks.integer("max_iterations", max_iterations, minimum=1)
    return _modified_policy_iteration(
        mdp, discount, tolerance, num_sweeps, max_iterations
    )


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
      discount: γ, in [0, 1) to solve, [0, 1] to iterate.
      method: as in `policy_evaluation`; "iterative" is exact to γ/(1−γ) · tolerance.
      tolerance: θ > 0 of "iterative".

    Returns:
      [] expected return.

    Raises:
      TypeError, ValueError: as `policy_evaluation`.
    """
    values = policy_evaluation(
        mdp, policy, discount, method=method, tolerance=tolerance
    ).values
    return jnp.sum(mdp.initial * values)


def q_values(mdp: MDP, values: jax.Array, discount: jax.typing.ArrayLike) -> jax.Array:
    """Q(s,a) = R(s,a) + γ Σ_s' P(s'|s,a) V(s'), and 0 at terminal states.

    Args:
      mdp: the process.
      values: [S] V; the entries of terminal states are ignored.
      discount: γ.

    Returns:
      [S, A].
    """
    values = jnp.where(mdp.terminal, 0, values)
    expected = _expectation(mdp.transitions, values)
    return jnp.where(mdp.terminal[:, None], 0, mdp.rewards + discount * expected)


def _expectation(transitions: jax.Array | SparseTransitions, values: jax.Array) -> Any:
    """Σ_s' P(s'|…) V(s') for transitions [..., S] or outcomes [..., K]."""
    if isinstance(transitions, SparseTransitions):
        return jnp.sum(
            transitions.probabilities * values[transitions.next_states], axis=-1
        )
    # The default multiplication of accelerators rounds to three digits.
    return jnp.matmul(transitions, values, precision=jax.lax.Precision.HIGHEST)


def _plan(mdp, values, discount, num_iterations, residual, error_bound) -> Plan:
    q = q_values(mdp, values, discount)
    return Plan(values, q, greedy(q), num_iterations, residual, error_bound)


def _iterate(sweep, mdp, tolerance, max_iterations):
    """Sweeps from V = 0; returns (V, number of sweeps, last change)."""
    epsilon = jnp.finfo(mdp.rewards.dtype).eps

    def going(carry):
        values, count, change = carry
        # Changes within one rounding unit of the largest value may go on for ever.
        rounding = epsilon * jnp.max(jnp.abs(values))
        return (count < max_iterations) & ~((change < tolerance) | (change <= rounding))

    def step(carry):
        values, count, _ = carry
        new = sweep(values)
        return new, count + 1, jnp.max(jnp.abs(new - values))

    values = jnp.zeros_like(mdp.rewards, shape=mdp.num_states)
    start = (values, jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, values.dtype))
    return jax.lax.while_loop(going, step, start)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _value_iteration(mdp, discount, tolerance, method, max_iterations):
    discount = jnp.asarray(discount, mdp.rewards.dtype)

    def synchronous(values):
        return jnp.max(q_values(mdp, values, discount), axis=-1)

    def gauss_seidel(values):
        def update(state, values):
            transitions = jax.tree.map(lambda x: x[state], mdp.transitions)
            q = mdp.rewards[state] + discount * _expectation(transitions, values)
            value = jnp.where(mdp.terminal[state], 0, jnp.max(q))
            return values.at[state].set(value)

        return jax.lax.fori_loop(0, mdp.num_states, update, values)

    sweep = synchronous if method == "synchronous" else gauss_seidel
    values, count, change = _iterate(sweep, mdp, tolerance, max_iterations)
    bound = _scaled(discount / (1 - discount), change)
    return _plan(mdp, values, discount, count, change, bound)


def _scaled(factor, residual):
    """factor · residual, and 0 for a residual of 0 however large the factor."""
    return jnp.where(residual == 0, 0, factor * residual)


def _under(mdp: MDP, policy: jax.Array) -> tuple[Any, jax.Array]:
    """The transitions and rewards of the Markov chain of an MDP under a policy."""
    if policy.ndim == 2:
        rewards = jnp.sum(policy * mdp.rewards, axis=-1)
        if isinstance(mdp.transitions, SparseTransitions):
            probabilities = policy[..., None] * mdp.transitions.probabilities
            flat = (mdp.num_states, -1)
            return SparseTransitions(
                mdp.transitions.next_states.reshape(flat), probabilities.reshape(flat)
            ), rewards
        return jnp.einsum(
            "sa,sat->st", policy, mdp.transitions, precision=jax.lax.Precision.HIGHEST
        ), rewards
    states = jnp.arange(mdp.num_states)
    transitions = jax.tree.map(lambda x: x[states, policy], mdp.transitions)
    return transitions, mdp.rewards[states, policy]


def _policy_sweep(mdp, policy, discount):
    """The function V ↦ R_π + γ P_π V."""
    transitions, rewards = _under(mdp, policy)

    def sweep(values):
        expected = _expectation(transitions, jnp.where(mdp.terminal, 0, values))
        return jnp.where(mdp.terminal, 0, rewards + discount * expected)

    return sweep


@functools.partial(jax.jit, static_argnums=4)
def _evaluate_iteratively(mdp, policy, discount, tolerance, max_iterations):
    discount = jnp.asarray(discount, mdp.rewards.dtype)
    sweep = _policy_sweep(mdp, policy, discount)
    values, count, change = _iterate(sweep, mdp, tolerance, max_iterations)
    bound = _scaled(discount / (1 - discount), change)
    return _plan(mdp, values, discount, count, change, bound)


@jax.jit
def _solve(mdp, policy, discount):
    discount = jnp.asarray(discount, mdp.rewards.dtype)
    values = _solved_values(mdp, policy, discount)
    residual = jnp.max(jnp.abs(_policy_sweep(mdp, policy, discount)(values) - values))
    bound = _scaled(1 / (1 - discount), residual)
    return _plan(mdp, values, discount, jnp.ones((), jnp.int32), residual, bound)


def _solved_values(mdp, policy, discount):
    """Solves (I − γ P_π) V = R_π by Gauss–Jordan elimination.

    The matrix is strictly diagonally dominant, so no pivoting is needed. There are two
    reasons against jnp.linalg.solve. Under vmap on more than one CPU device, its calls
    of LAPACK can deadlock (with jaxlib 0.10.2 in 12 of 15 cold starts). And on an
    accelerator it solves the many small systems of vmapped seeds one after another.
    """
    num_states = mdp.num_states
    transitions, rewards = _under(mdp, policy)
    if isinstance(transitions, SparseTransitions):
        transitions = transitions.dense(num_states)
    transitions = jnp.where(mdp.terminal[:, None], 0, transitions)
    rewards = jnp.where(mdp.terminal, 0, rewards)
    matrix = jnp.eye(num_states, dtype=rewards.dtype) - discount * transitions
    augmented = jnp.concatenate([matrix, rewards[:, None]], axis=1)

    def eliminate(pivot, augmented):
        row = augmented[pivot] / augmented[pivot, pivot]
        column = augmented[:, pivot].at[pivot].set(0)
        return augmented.at[pivot].set(row) - column[:, None] * row

    return jax.lax.fori_loop(0, num_states, eliminate, augmented)[:, -1]


@functools.partial(jax.jit, static_argnums=2)
def _policy_iteration(mdp, discount, max_iterations):
    discount = jnp.asarray(discount, mdp.rewards.dtype)
    epsilon = jnp.finfo(mdp.rewards.dtype).eps
    states = jnp.arange(mdp.num_states)

    def going(carry):
        _, _, count, changed = carry
        return (count < max_iterations) & changed

    def step(carry):
        policy, _, count, _ = carry
        values = _solved_values(mdp, policy, discount)
        q = q_values(mdp, values, discount)
        best = greedy(q)
        noise = 8 * epsilon * jnp.max(jnp.abs(values))
        better = q[states, best] > q[states, policy] + noise
        improved = jnp.where(better, best, policy)
        return improved, values, count + 1, jnp.any(better)

    policy = jnp.zeros(mdp.num_states, jnp.int32)
    values = jnp.zeros_like(mdp.rewards, shape=mdp.num_states)
    start = (policy, values, jnp.zeros((), jnp.int32), jnp.bool_(True))
    _, values, count, _ = jax.lax.while_loop(going, step, start)
    return _with_bellman_residual(mdp, values, discount, count)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _modified_policy_iteration(mdp, discount, tolerance, num_sweeps, max_iterations):
    discount = jnp.asarray(discount, mdp.rewards.dtype)
    epsilon = jnp.finfo(mdp.rewards.dtype).eps

    def going(carry):
        values, _, count, residual = carry
        # A wider margin than in `_iterate`: sweeps under a policy add in another order
        # than TV does, so the residual may stay some rounding units above 0.
        rounding = 8 * epsilon * jnp.max(jnp.abs(values))
        settled = (residual < tolerance) | (residual <= rounding)
        return (count < max_iterations) & ~settled

    def step(carry):
        values, q, count, _ = carry
        # The first sweep under the greedy policy gives TV, which is max_a Q(s,a).
        sweep = _policy_sweep(mdp, greedy(q), discount)
        values = jax.lax.fori_loop(
            1, num_sweeps, lambda _, v: sweep(v), jnp.max(q, axis=-1)
        )
        q = q_values(mdp, values, discount)
        return values, q, count + 1, jnp.max(jnp.abs(jnp.max(q, axis=-1) - values))

    values = jnp.zeros_like(mdp.rewards, shape=mdp.num_states)
    q = q_values(mdp, values, discount)
    residual = jnp.full((), jnp.inf, values.dtype)
    start = (values, q, jnp.zeros((), jnp.int32), residual)
    values, _, count, _ = jax.lax.while_loop(going, step, start)
    return _with_bellman_residual(mdp, values, discount, count)


def _with_bellman_residual(mdp, values, discount, count):
    """The plan with residual max|TV − V| and error bound residual / (1 − γ)."""
    best = jnp.max(q_values(mdp, values, discount), axis=-1)
    residual = jnp.max(jnp.abs(best - values))
    bound = _scaled(1 / (1 - discount), residual)
    return _plan(mdp, values, discount, count, residual, bound)


def _check(mdp: Any, **scalars: Any) -> None:
    """Raises TypeError or ValueError unless these are an MDP, γ and θ."""
    if not isinstance(mdp, MDP):
        raise TypeError(
            "mdp must be an rljax.types.MDP, such as env.to_mdp() returns, got "
            f"{type(mdp).__name__}."
        )
    if mdp.rewards.ndim != 2:
        raise ValueError(
            f"mdp must be a single MDP with rewards [S, A], got {mdp.rewards.shape}. "
            "vmap over stacked MDPs: jax.vmap(lambda mdp: …)(mdps)."
        )
    for name, value in scalars.items():
        if isinstance(value, Tracer):
            continue
        inside = "in [0, 1]" if name == "discount" else "a positive number"
        try:
            if isinstance(value, str | bool):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"{name} must be one number, {inside}, got {value!r}. vmap over "
                "several."
            ) from None
        if not (0 <= number <= 1 if name == "discount" else 0 < number < np.inf):
            raise ValueError(f"{name} must be {inside}, got {value!r}.")


def _check_policy(mdp: MDP, policy: Any) -> jax.Array:
    """`policy` as an array. Raises ValueError if it is not a policy of the MDP."""
    array = jnp.asarray(policy)
    is_actions = jnp.issubdtype(array.dtype, jnp.integer)
    shapes = [(mdp.num_states,)] if is_actions else [(mdp.num_states, mdp.num_actions)]
    if array.shape not in shapes:
        raise ValueError(
            f"policy must be integer actions [{mdp.num_states}] or probabilities "
            f"[{mdp.num_states}, {mdp.num_actions}], got {array.dtype} "
            f"{list(array.shape)}."
        )
    if isinstance(array, Tracer):
        return array
    concrete = np.asarray(array)
    if is_actions:
        wrong = (concrete < 0) | (concrete >= mdp.num_actions)
    else:
        wrong = ~are_distributions(concrete)
    if wrong.any():
        state = int(np.flatnonzero(wrong)[0])
        what = (
            f"actions from 0 to {mdp.num_actions - 1}"
            if is_actions
            else ("probabilities that sum to 1")
        )
        raise ValueError(f"policy[{state}] must be {what}, got {concrete[state]}.")
    return array


def check_solvable(mdp: MDP, discount: Any) -> None:
    """Raises ValueError if S is too large, or γ = 1, to solve Bellman equations."""
    if mdp.num_states > _MAX_SOLVED_STATES:
        raise ValueError(
            f"solving for {mdp.num_states} states needs a dense matrix of as many rows "
            f"and columns; at most {_MAX_SOLVED_STATES} are solved. Use "
            "policy_evaluation(…, method='iterative') or modified_policy_iteration."
        )
    if not isinstance(discount, Tracer) and float(discount) >= 1:
        raise ValueError(
            f"discount must be below 1 to solve for values, got {discount!r}: without "
            "discounting, a policy that never ends has none. Use "
            "policy_evaluation(…, method='iterative')."
        )
