"""Prediction that learns from one step after another."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, returns
from rljax.tabular.prediction.experience import bootstrap, checked, is_cut
from rljax.types import Transition

Record = Callable[[jax.Array], Any]
TRACES = ("accumulating", "replacing", "dutch")

# Outside of jit a scan is compiled at each call, unless a function around it is known.
_compiled = functools.partial(jax.jit, inline=True, static_argnames="record")


class Learned(NamedTuple):
    """What was learned step by step."""

    values: jax.Array
    """[S] floating V after the trajectory."""
    records: Any
    """Leaves [T, …]: what `record` returned, or None."""


def td_lambda(
    values: jax.Array,
    trajectory: Transition,
    *,
    step_size: jax.typing.ArrayLike,
    discount: jax.typing.ArrayLike,
    lambda_: jax.typing.ArrayLike,
    traces: Literal["accumulating", "replacing", "dutch"] = "accumulating",
    record: Record | None = None,
) -> Learned:
    """TD(λ), online, with one of three kinds of eligibility traces.

        δ = r_t + γ (1 − terminated_t) V(s_{t+1}) − V(s_t)
        E ← γλ E,   E(s_t) ← c E(s_t) + 1,   V ← V + α δ E

    with c = 1 for accumulating traces, 0 for replacing and 1 − α for dutch ones. E is 0
    at the trajectory's start and after each done step. With dutch traces it is true
    online TD(λ), which after each step has the values of the online λ-return algorithm:

        V ← V + α (δ + d) E,   V(s_t) ← V(s_t) − α d

    where d is by how much the last update changed V(s_t), and 0 where an episode
    starts. At λ = 0 all three are TD(0).

    Args:
      values: [S] V to start from.
      trajectory: leaves [T].
      step_size: α, scalar in [0, 1].
      discount: γ, scalar in [0, 1].
      lambda_: λ, scalar in [0, 1].
      traces: kind of traces.
      record: a function of V [S] after a step, whose results are kept.

    Raises:
      TypeError: an argument is of another kind.
      ValueError: a shape does not fit, or a scalar or a state is out of range.

    Source: Sutton and Barto (2018), §12.2; replacing traces: Singh and Sutton (1996);
    dutch ones: van Seijen et al. (2016), and §12.5.
    """
    if traces not in TRACES:
        listed = ", ".join(map(repr, TRACES))
        raise ValueError(f"traces must be one of {listed}, got {traces!r}.")
    settings = {"step_size": step_size, "discount": discount, "lambda_": lambda_}
    values, trajectory, numbers = checked(values, trajectory, **settings)
    return _td_lambda(values, trajectory, *numbers, traces=traces, record=record)


@functools.partial(_compiled, static_argnames=("traces", "record"))
def _td_lambda(values, trajectory, step_size, discount, lambda_, *, traces, record):
    kept = dict(zip(TRACES, (1.0, 0.0, 1 - step_size), strict=True))[traces]

    def learn(carry, step):
        values, trace, old_value = carry
        value, next_value = values[step.obs], values[step.next_obs]
        following = bootstrap(step.terminated, next_value, discount)
        trace = _visit(discount * lambda_ * trace, step.obs, kept)
        change = (step.reward + following - value) * trace
        if traces == "dutch":
            # Where an episode starts, E is 1 at s_t alone, and the change is δ there.
            drift = value - old_value
            change += (drift * trace).at[step.obs].add(-drift)
        going = ~(step.terminated | step.truncated)
        trace, next_value = (jnp.where(going, x, 0) for x in (trace, next_value))
        return values + step_size * change, trace, next_value

    zeros = jnp.zeros_like(values)
    return _loop(learn, (values, zeros, zeros[0]), trajectory, record)


def n_step_td(
    values: jax.Array,
    trajectory: Transition,
    *,
    step_size: jax.typing.ArrayLike,
    discount: jax.typing.ArrayLike,
    num_steps: jax.typing.ArrayLike,
    record: Record | None = None,
) -> Learned:
    """n-step TD: V(s_t) learns n steps late, from the rewards and the value after them.

        V(s_t) ← V(s_t) + α [Σ_{k<m} γ^k r_{t+k} + γ^m V(s_{t+m}) − V(s_t)]

    in the order of t, with m = n, or the number of steps to the episode's end if they
    are fewer; V(s_{t+m}) is 0 if it terminated there. Values on the right are those of
    that moment. So they are what an agent has that learns while the episode goes on.

    Args:
      values: [S] V to start from.
      trajectory: leaves [T].
      step_size: α, scalar in [0, 1].
      discount: γ, scalar in [0, 1].
      num_steps: n, integer scalar of 1 or more, which may be traced.
      record: a function of V [S] after the update of V(s_t), whose results are kept;
        where step t is done, that is V at the episode's end.

    Raises:
      TypeError: an argument is of another kind.
      ValueError: a shape does not fit, or a scalar or a state is out of range.

    Source: Sutton and Barto (2018), §7.1.
    """
    settings = {"step_size": step_size, "discount": discount}
    values, trajectory, numbers = checked(values, trajectory, **settings)
    (num_steps,) = checks.integers(num_steps=num_steps)
    checks.scalar(1.0, num_steps=num_steps)
    num_steps = jnp.minimum(num_steps, len(trajectory.reward)).astype(jnp.int32)
    return _n_step_td(values, trajectory, *numbers, num_steps, record=record)


@_compiled
def _n_step_td(values, trajectory, step_size, discount, num_steps, *, record):
    rewards, ends = trajectory.reward, (trajectory.terminated, trajectory.truncated)
    steps = jnp.arange(len(rewards), dtype=jnp.int32)
    ending = jnp.where(is_cut(trajectory), steps, jnp.full_like(steps, len(rewards)))
    episode_end = jax.lax.cummin(ending, reverse=True)
    last = jnp.minimum(steps + num_steps - 1, episode_end)
    # The sum of n rewards is the return of the rewards r_t − γ^n r_{t+n}.
    power = discount ** num_steps.astype(discount.dtype)
    later = power * jnp.roll(rewards, -num_steps)
    firsts = rewards - jnp.where(steps + num_steps <= episode_end, later, 0)
    sums = returns.discounted_returns(firsts, jnp.zeros_like(rewards), *ends, discount)
    powers = discount ** (last + 1 - steps).astype(discount.dtype)

    def learn(carry, step):
        (values,) = carry
        obs, total, power, terminated, next_obs = step
        target = total + bootstrap(terminated, values[next_obs], power)
        return (values.at[obs].add(step_size * (target - values[obs])),)

    reached = trajectory.terminated[last], trajectory.next_obs[last]
    return _loop(learn, (values,), (trajectory.obs, sums, powers, *reached), record)


def offline_lambda(
    values: jax.Array,
    trajectory: Transition,
    *,
    step_size: jax.typing.ArrayLike,
    discount: jax.typing.ArrayLike,
    lambda_: jax.typing.ArrayLike,
    record: Record | None = None,
) -> Learned:
    """The offline λ-return algorithm: all of an episode is learned from at its end.

        V(s_t) ← V(s_t) + α [G_t − V(s_t)]

    in the order of t, with the λ-returns G_t of `returns.lambda_returns` for the values
    V_0 at the episode's start. At λ = 1 it is every-visit Monte Carlo with a constant
    step size. It is computed forwards: with the TD errors δ_t of V_0,

        G_t = V_0(s_t) + Σ_k (γλ)^k δ_{t+k},

    so the dutch traces E of `td_lambda` gather the same sums while the episode goes on,

        U(s_t) ← U(s_t) + α [V_0(s_t) − U(s_t)],   U ← U + α δ_t E

    where U begins as V_0, and is V at the end.

    Args:
      values: [S] V to start from.
      trajectory: leaves [T].
      step_size: α, scalar in [0, 1].
      discount: γ, scalar in [0, 1].
      lambda_: λ, scalar in [0, 1].
      record: a function of V [S] after a step, whose results are kept.

    Raises:
      TypeError: an argument is of another kind.
      ValueError: a shape does not fit, or a scalar or a state is out of range.

    Source: Sutton and Barto (2018), §12.1.
    """
    settings = {"step_size": step_size, "discount": discount, "lambda_": lambda_}
    values, trajectory, numbers = checked(values, trajectory, **settings)
    return _offline_lambda(values, trajectory, *numbers, record=record)


@_compiled
def _offline_lambda(values, trajectory, step_size, discount, lambda_, *, record):
    def learn(carry, step):
        values, gathered, trace = carry
        step, cut = step
        value = values[step.obs]
        following = bootstrap(step.terminated, values[step.next_obs], discount)
        td_error = step.reward + following - value
        trace = _visit(discount * lambda_ * trace, step.obs, 1 - step_size)
        forgotten = step_size * (value - gathered[step.obs])
        gathered = gathered.at[step.obs].add(forgotten) + step_size * td_error * trace
        return jnp.where(cut, gathered, values), gathered, jnp.where(cut, 0, trace)

    carry = (values, values, jnp.zeros_like(values))
    return _loop(learn, carry, (trajectory, is_cut(trajectory)), record)


def _visit(trace: jax.Array, state: jax.Array, kept: jax.typing.ArrayLike) -> jax.Array:
    """The traces [S] with E(s) ← c E(s) + 1."""
    here = jnp.arange(len(trace), dtype=state.dtype) == state
    return jnp.where(here, kept * trace + 1, trace)


def _loop(learn: Any, carry: Any, steps: Any, record: Record | None) -> Learned:
    """Learns from one step after another; the carry's first part are the values."""
    if record is not None and not callable(record):
        raise TypeError(f"record must be a function of the values, got {record!r}.")

    def one(carry, step):
        carry = learn(carry, step)
        return carry, None if record is None else record(carry[0])

    carry, records = jax.lax.scan(one, carry, steps)
    return Learned(carry[0], records)
