"""The result of planning, and checks of its arguments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, display
from rljax.mdp import MDP, are_distributions, require_mdp

_MAX_SOLVED_STATES = 10_000


class Plan(NamedTuple):
    """Values, and a policy that is greedy with respect to them."""

    values: jax.Array
    """[S] V(s); 0 at terminal states. At γ = 1 it may be ±∞, or NaN if undefined."""
    q_values: jax.Array
    """[S, A] Q(s,a) = R(s,a) + γ Σ_s' P(s'|s,a) V(s'); 0 at terminal states."""
    policy: jax.Array
    """[S] int32 argmax_a Q(s,a), ties to the lowest action. At γ = 1, ties go to
    actions that surely lead to an end, or to a rest without rewards where V(s) = 0."""
    num_iterations: jax.Array
    """[] int32: number of sweeps, of policies evaluated, or of improvements."""
    residual: jax.Array
    """[] max_s of: the last change of V (value iteration, iterative evaluation),
    |T_π V − V| (solved evaluation) or |TV − V| (both kinds of policy iteration)."""
    error_bound: jax.Array
    """[] bound on max_s |V(s) − V_true(s)| that follows from the residual. At γ = 1
    none follows: it is infinite, or 0 if the residual is 0, all values are finite and
    the greedy policy attains them."""

    __repr__ = display.text
    _repr_html_ = display.html


def bound_error(
    factor: jax.Array, residual: jax.Array, certain: jax.typing.ArrayLike = True
) -> jax.Array:
    """factor · residual; 0 for a residual of 0 however large the factor, if certain."""
    bound = jnp.where(residual == 0, 0, factor * residual)
    return jnp.where(certain, bound, jnp.inf)


def check(mdp: Any, **scalars: Any) -> None:
    """Raises TypeError or ValueError unless these are an MDP, γ and θ."""
    require_mdp(mdp)
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


def check_policy(mdp: MDP, policy: Any) -> jax.Array:
    """`policy` as an array.

    Raises:
      TypeError, ValueError: it is not a policy of the MDP.
    """
    array = checks.as_array("policy", policy)
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


def check_solvable(mdp: MDP) -> None:
    """Raises ValueError if there are too many states to solve Bellman's equations."""
    if mdp.num_states > _MAX_SOLVED_STATES:
        raise ValueError(
            f"solving for {mdp.num_states} states needs a dense matrix of as many rows "
            f"and columns; at most {_MAX_SOLVED_STATES} are solved. Use "
            "policy_evaluation(…, method='iterative') or modified_policy_iteration."
        )
