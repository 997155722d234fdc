"""The best policy of a linear system with quadratic costs, and the return of others.

Shape letters: N numbers of a state, M of a control, T steps. All of it is matrix
products, so that it can be jitted, vmapped over systems and differentiated.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rljax import checks, display
from rljax.envs.lqr import LQR
from rljax.tabular.planning.bellman import iterate

_DOUBLINGS = 64
_dot = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class LinearPlan(NamedTuple):
    """The best policy of an `LQR`, u = −K s, and its values V(s) = −(sᵀ P s + c)."""

    gain: jax.Array
    """[M, N] K; with a horizon [T, M, N], as the best policy then depends on time."""
    cost: jax.Array
    """[N, N] P; with a horizon, that of the first step."""
    constant: jax.Array
    """[] c, the cost of the noise to come."""
    expected_return: jax.Array
    """[] J* = −E[s_0ᵀ P s_0] − c."""
    num_iterations: jax.Array
    """[] int32: applications of Riccati's equation; T with a horizon."""
    residual: jax.Array
    """[] the largest last change of a number of P; 0 with a horizon, as that is
    exact."""

    __repr__ = display.text
    _repr_html_ = display.html


def riccati(
    env: LQR,
    discount: jax.typing.ArrayLike,
    *,
    horizon: int | None = None,
    tolerance: jax.typing.ArrayLike = 1e-6,
    max_iterations: int = 10_000,
) -> LinearPlan:
    """The best policy of a linear-quadratic regulator: value iteration on matrices.

        K = (R + γ BᵀPB)⁻¹ γ BᵀPA
        P ← Q + KᵀRK + γ (A − BK)ᵀ P (A − BK)
        c = γ / (1 − γ) · tr(P W),   W = diag(noise_scale²)

    starting from P = 0, until no number of P changes by as much as the tolerance or by
    more than rounding. The noise makes every policy dearer by a constant, and so does
    not change the best one. With a horizon there are T such steps.

    Args:
      env: the system.
      discount: γ in [0, 1]; at 1 without a horizon, J* is −∞ if there is noise.
      horizon: T, the number of steps of an episode; None: it never ends. A `TimeLimit`
        is no horizon: a truncated step does not end the problem.
      tolerance: θ > 0, in units of P.
      max_iterations: after which to stop anyway.

    Raises:
      TypeError, ValueError: an argument is wrong, or P does not converge, as where no
        policy keeps the cost finite: some direction grows by 1/√γ or more in a step,
        and the control does not reach it. In traced code, `residual` shows it.

    Source: Bertsekas (2017), Dynamic Programming and Optimal Control, volume I, §3.1;
    the discount after volume II (2012), §4.2.
    """
    discount, horizon = _checked(env, discount, horizon)
    tolerance = checks.scalar(0.0, open_minimum=True, tolerance=tolerance)
    most = checks.integer("max_iterations", max_iterations, minimum=1)
    plan = _riccati(env, discount, horizon, tolerance, most)
    if horizon is None and not isinstance(plan.residual, Tracer):
        _require_converged(plan, most, tolerance)
    return plan


def linear_return(
    env: LQR,
    gain: Any,
    discount: jax.typing.ArrayLike,
    *,
    bias: Any = None,
    noise_scale: Any = None,
    horizon: int | None = None,
) -> jax.Array:
    """J, exact, of any linear policy with normal noise, u = k − K s + σ ε.

        J = −E[Σ_t γ^t (s_tᵀ Q s_t + u_tᵀ R u_t)]

    A 1 is appended to the state, so that the bias k is a part of the gain. The cost P
    of the policy solves Lyapunov's equation P = C + γ FᵀPF, where F is the closed loop
    and C the cost of a step. It is summed by doubling: from P = C and G = √γ F on,
    P ← P + GᵀPG and G ← GG add up 2⁶⁴ steps, which is for ever. J can be differentiated
    by the gain, the bias, the noise and the system. Without a bias, the derivative by K
    is −2 ((R + γ BᵀPB) K − γ BᵀPA) Σ, with the discounted sum Σ of E[s sᵀ].

    Args:
      env: the system.
      gain: [M, N] K.
      discount: γ in [0, 1].
      bias: [M] k; None: 0.
      noise_scale: [M] σ; None: 0.
      horizon: T, the number of steps that count; None: all of them.

    Returns:
      [] J; −∞ where the cost of the policy grows without limit, NaN where a number of
      the policy is.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Fazel, Ge, Kakade and Mesbahi (2018), arXiv:1801.05039; Smith (1968),
    "Matrix Equation XA + BX = C", for the doubling.
    """
    discount, horizon = _checked(env, discount, horizon)
    num_states, num_controls = jnp.shape(env.control_matrix)
    zeros = jnp.zeros(num_controls)
    arrays = {
        "gain": (gain, (num_controls, num_states)),
        "bias": (zeros if bias is None else bias, (num_controls,)),
        "noise_scale": (zeros if noise_scale is None else noise_scale, (num_controls,)),
    }
    floats = []
    for name, (value, shape) in arrays.items():
        array = checks.as_array(name, value).astype(float)
        if array.shape != shape:
            raise ValueError(
                f"{name} must have shape {list(shape)} for this system, got "
                f"{list(array.shape)}."
            )
        floats.append(array)
    return _linear_return(env, *floats, discount, horizon)


def _checked(env: Any, discount: Any, horizon: Any) -> tuple[Any, int | None]:
    checks.instance("env", env, LQR, 'rljax.LQR(), or make("LQR-…").env')
    env.require_one()
    discount = checks.scalar(0.0, 1.0, discount=discount)
    if horizon is not None:
        horizon = checks.integer("horizon", horizon, minimum=1)
    return discount, horizon


def _require_converged(plan: LinearPlan, most: int, tolerance: Any) -> None:
    count, residual = int(plan.num_iterations), float(plan.residual)
    stopped = count == most and not residual < tolerance
    # Where P overflows, its change is no more than its rounding: both are infinite.
    if stopped or not math.isfinite(residual):
        raise ValueError(
            f"P did not converge in {count} iterations (max_iterations = {most}), its "
            f"last change is {residual:.3g}. If more of them don't help, the system "
            "can't be stabilised: some direction that costs grows by 1/√discount or "
            "more in a step, and LQR.control_matrix does not reach it. Lower the "
            "discount, or pass a horizon."
        )


@functools.partial(jax.jit, static_argnums=2)
def _riccati(env, discount, horizon, tolerance, max_iterations):
    a, b, q, r = _matrices(env)
    discount = jnp.asarray(discount, a.dtype)
    noise = _variances(env.noise_scale, a)

    def best_gain(cost):
        reached = discount * _dot(b.T, cost)
        return _solve(r + _dot(reached, b), _dot(reached, a))

    def improve(cost):
        gain = best_gain(cost)
        loop = a - _dot(b, gain)
        cost = (
            q + _dot(gain.T, _dot(r, gain)) + discount * _dot(loop.T, _dot(cost, loop))
        )
        return (cost + cost.T) / 2

    if horizon is None:
        cost, count, residual = iterate(
            improve, jnp.zeros_like(q), tolerance, max_iterations
        )
        gain = best_gain(cost)
        constant = discount * _for_ever(jnp.sum(jnp.diag(cost) * noise), discount)
    else:

        def step(carry, _):
            cost, constant = carry
            constant = discount * (jnp.sum(jnp.diag(cost) * noise) + constant)
            return (improve(cost), constant), best_gain(cost)

        start = jnp.zeros_like(q), jnp.zeros_like(discount)
        (cost, constant), gain = jax.lax.scan(step, start, length=horizon, reverse=True)
        count, residual = jnp.full((), horizon, jnp.int32), jnp.zeros_like(discount)
    at_start = jnp.sum(jnp.diag(cost) * _variances(env.start_scale, a))
    return LinearPlan(gain, cost, constant, -at_start - constant, count, residual)


@functools.partial(jax.jit, static_argnums=5)
def _linear_return(env, gain, bias, noise_scale, discount, horizon):
    a, b, q, r = _matrices(env)
    discount = jnp.asarray(discount, a.dtype)
    control = jnp.concatenate([-gain, bias[:, None]], axis=1)
    one = jnp.zeros_like(control, shape=(1, control.shape[1])).at[0, -1].set(1)
    loop = jnp.concatenate([jnp.pad(a, ((0, 0), (0, 1))) + _dot(b, control), one])
    step_cost = jnp.pad(q, ((0, 1), (0, 1))) + _dot(control.T, _dot(r, control))
    explored = jnp.square(noise_scale)
    noise = jnp.diag(_variances(env.noise_scale, a)) + _dot(b * explored[None, :], b.T)
    noise = jnp.pad(noise, ((0, 1), (0, 1)))
    effort = jnp.sum(jnp.diag(r) * explored)
    start = jnp.append(_variances(env.start_scale, a), 1)
    if horizon is None:
        cost = _sum_for_ever(step_cost, jnp.sqrt(discount) * loop)
        constant = effort + discount * jnp.sum(cost * noise)
        constant = _for_ever(constant, discount)
    else:

        def step(_, carry):
            cost, constant = carry
            constant = effort + discount * (jnp.sum(cost * noise) + constant)
            return step_cost + discount * _dot(loop.T, _dot(cost, loop)), constant

        zeros = jnp.zeros_like(step_cost), jnp.zeros_like(discount)
        cost, constant = jax.lax.fori_loop(0, horizon, step, zeros)
    total = jnp.sum(jnp.diag(cost) * start) + constant
    value = jnp.where(jnp.isfinite(total), -total, -jnp.inf)
    unknown = jnp.any(jnp.isnan(control)) | jnp.any(jnp.isnan(noise_scale))
    return jnp.where(unknown, jnp.nan, value)


def _sum_for_ever(cost, loop):
    """Σ_t Gᵀ^t C G^t; infinite where it does not converge."""

    def double(_, carry):
        total, power, _ = carry
        more = _dot(power.T, _dot(total, power))
        return total + more, _dot(power, power), jnp.max(jnp.abs(more))

    start = cost, loop, jnp.max(jnp.abs(cost))
    total, _, change = jax.lax.fori_loop(0, _DOUBLINGS, double, start)
    rounding = jnp.finfo(total.dtype).eps * jnp.max(jnp.abs(total))
    return jnp.where(change <= rounding, total, jnp.inf)


def _for_ever(number, discount):
    """Σ_t γ^t x = x / (1 − γ); at γ = 1 infinite, or 0 for x = 0."""
    ends = discount < 1
    total = number / jnp.where(ends, 1 - discount, 1)
    return jnp.where(ends | (number == 0), total, jnp.inf)


def _matrices(env: LQR) -> tuple[jax.Array, ...]:
    """A, B, Q and R."""
    fields = (env.state_matrix, env.control_matrix, env.state_cost, env.control_cost)
    return tuple(jnp.asarray(field, float) for field in fields)


def _variances(scale: Any, like: jax.Array) -> jax.Array:
    """The squares of standard deviations [N], or zeros."""
    if scale is None:
        return jnp.zeros_like(like[0])
    return jnp.square(jnp.asarray(scale, float))


def _solve(matrix: jax.Array, others: jax.Array) -> jax.Array:
    """X of M X = Y for a symmetric positive M [M, M], by Gauss–Jordan elimination.

    Such a matrix needs no pivots. Why not jnp.linalg.solve, `bellman.solve` says.
    """

    def eliminate(pivot, augmented):
        row = augmented[pivot] / augmented[pivot, pivot]
        others = augmented - augmented[:, pivot, None] * row[None, :]
        return others.at[pivot].set(row)

    size = len(matrix)
    augmented = jnp.concatenate([matrix, others], axis=1)
    return jax.lax.fori_loop(0, size, eliminate, augmented)[:, size:]
