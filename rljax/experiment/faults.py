"""Runs whose parameters became NaN or infinite: which, when, and from where."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from rljax.training import TrainState, train_step
from rljax.types import Agent, EnvLike, is_buffer

_JAX = os.path.dirname(jax.__file__)


class Fault(NamedTuple):
    """A run that was frozen."""

    setting: str
    """The setting's label, see `settings.label`."""
    seed: int
    update: int
    """The update, counted from 1, that broke it; 0: it was broken from the start."""
    leaf: str
    """The first leaf of the agent state that became NaN or infinite."""

    def __str__(self) -> str:
        who = f"setting {self.setting!r}, seed {self.seed}: {self.leaf}"
        if self.update == 0:
            return f"{who} was NaN from the start, as the agent's init made it"
        return (
            f"{who} became NaN or infinite in update {self.update}; the run is frozen "
            "as it was before"
        )


def locate_nan(
    agent: Agent, env: EnvLike, train_state: TrainState, *, max_updates: int = 10
) -> str | None:
    """Runs updates with every operation checked, and names the first that makes a NaN.

    It is slow, as it checks each operation. A sweep keeps the state of a frozen run
    from before the update that broke it; from there, one update is enough.

    Args:
      agent, env: the run's agent and environment.
      train_state: the state of one run, to begin from.
      max_updates: the number of updates after which to give up.

    Returns:
      The first operation that made a NaN, as JAX's checkify names it, and the calls
      that led to it, innermost first; None if no operation did.
    """
    checked = jax.jit(
        checkify.checkify(
            lambda state: train_step(agent, env, state)[0],
            errors=checkify.nan_checks,
        )
    )
    for _ in range(max_updates):
        error, train_state = checked(train_state)
        exception = error.get_exception()
        if exception is not None:
            calls = str(getattr(exception, "traceback_info", "")).splitlines()
            calls = [f"  {call}" for call in calls if _JAX not in call]
            return "\n".join([str(exception), *calls])
    return None


def is_broken(new: Any, old: Any = None) -> jax.Array:
    """For each leaf, whether a finite number in it became NaN or infinite.

    A `Buffer` counts as one leaf and is not looked into: a sweep calls this after every
    update, and that must not take time in proportion to a replay buffer.

    Args:
      new: pytree.
      old: the same pytree before the update; without it, the result says whether each
        leaf of `new` holds a NaN.

    Returns:
      [leaves + 1] bool, the last of which is always False.
    """

    def broken(new, old=None):
        if is_buffer(new):
            return jnp.bool_(False)
        if not jnp.issubdtype(jnp.result_type(new), jnp.inexact):
            return jnp.bool_(False)
        if old is None:
            return jnp.any(jnp.isnan(new))
        return jnp.any(~jnp.isfinite(new) & jnp.isfinite(old))

    trees = (new,) if old is None else (new, old)
    leaves = jax.tree.leaves(jax.tree.map(broken, *trees, is_leaf=is_buffer))
    return jnp.stack([*leaves, jnp.bool_(False)])  # the False: stack needs an element
