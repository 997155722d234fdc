"""What prediction learns from: a table and a trajectory that fit each other."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks
from rljax.types import Transition


def checked(
    values: Any, trajectory: Any, **scalars: Any
) -> tuple[jax.Array, Transition, list[jax.Array]]:
    """Values [S], trajectory [T] and scalars in [0, 1], all numbers in one dtype.

    Raises:
      TypeError: one of them is of another kind.
      ValueError: a shape does not fit, or a scalar or a state is out of range; traced
        numbers are left alone.
    """
    checks.instance("trajectory", trajectory, Transition, "rollout.unroll returns")
    named: dict[str, Any] = {}
    for kind, names in (
        (checks.integers, ("obs", "next_obs")),
        (checks.floating, ("reward",)),
        (checks.flags, ("terminated", "truncated")),
    ):
        for name in names:
            label = f"trajectory.{name}"
            (named[label],) = kind(**{label: getattr(trajectory, name)})
    checks.trajectory(**named)
    (table,) = checks.floating(values=values)
    if jnp.ndim(table) != 1 or not len(table):
        raise ValueError(
            f"values must have shape [S], one for each state, got {jnp.shape(table)}. "
            "vmap over several tables."
        )
    _check_states(len(table), named)
    numbers = [checks.scalar(0.0, 1.0, **{name: x}) for name, x in scalars.items()]
    dtype = jnp.result_type(table, named["trajectory.reward"], *numbers, 1.0)
    table, reward, *numbers = (
        jnp.asarray(x, dtype) for x in (table, named["trajectory.reward"], *numbers)
    )
    found = {label.removeprefix("trajectory."): x for label, x in named.items()}
    found |= {"reward": reward, "action": (), "extras": ()}
    return table, trajectory._replace(**found), numbers


def _check_states(num_states: int, named: dict[str, Any]) -> None:
    for name in ("trajectory.obs", "trajectory.next_obs"):
        states = named[name]
        if isinstance(states, Tracer):
            continue
        states = np.asarray(states)
        known = (states >= 0) & (states < num_states)
        if not known.all():
            raise ValueError(
                f"{name} must be states from 0 to {num_states - 1}, as there are "
                f"{num_states} values, got {states[~known][0]}."
            )


def is_cut(trajectory: Transition) -> jax.Array:
    """Where an episode ends, or the trajectory, [T] bool."""
    length = len(trajectory.reward)
    is_last = jnp.arange(length) == length - 1
    return trajectory.terminated | trajectory.truncated | is_last


def bootstrap(
    terminated: jax.Array, next_value: jax.Array, discount: jax.Array
) -> jax.Array:
    """γ (1 − terminated) V(s'), [...]; a value that does not count may be NaN."""
    return jnp.where(terminated, 0, discount * next_value)
