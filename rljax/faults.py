"""Runs whose parameters became NaN or infinite: which, when, and from where."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from rljax.train import TrainState, train_step
from rljax.types import Agent, Env

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
    agent: Agent, env: Env, train_state: TrainState, *, max_updates: int = 10
) -> str | None:
    """Runs updates with every operation checked and says which made the first NaN.

    As it checks each operation, it is slow. The state that a sweep kept of a frozen run
    is the one before the update that broke it: from there one update will do.

    Args:
      agent, env: of the run.
      train_state: where to begin; of one run.
      max_updates: give up after as many.

    Returns:
      The first operation that made a NaN, as JAX's checkify names it, and the calls
      that led to it, innermost first; None if there was none.
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
    """Leaf by leaf, [leaves] bool: whether a finite number became NaN or infinite.

    Args:
      new: pytree.
      old: the same before; without it, whether there is a NaN.
    """

    def broken(new, old=None):
        if not jnp.issubdtype(jnp.result_type(new), jnp.inexact):
            return jnp.bool_(False)
        if old is None:
            return jnp.any(jnp.isnan(new))
        return jnp.any(~jnp.isfinite(new) & jnp.isfinite(old))

    trees = (new,) if old is None else (new, old)
    leaves = jax.tree.leaves(jax.tree.map(broken, *trees))
    return jnp.stack([*leaves, jnp.bool_(False)])  # never empty
