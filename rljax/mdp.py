"""Finite Markov decision processes as data. `types` has the same names.

Shape letters: S states, A actions, K outcomes.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, display, struct

_MAX_DENSE_ENTRIES = 2**28


@struct.dataclass
class SparseTransitions:
    """P(s'|s,a) as a list of K outcomes for each state and action.

    It stands for the array [S, A, S] in S·A·K numbers. An outcome may be listed twice:
    its probabilities add up.
    """

    next_states: jax.Array
    """[S, A, K] int32 s'."""
    probabilities: jax.Array
    """[S, A, K] floating, summing to 1 over K."""

    def dense(self, num_states: int) -> jax.Array:
        """[S, A, S], or [..., S] for leaves [..., K]."""
        return _dense(self, num_states)


@functools.partial(jax.jit, static_argnames="num_states", inline=True)
def _dense(listed: SparseTransitions, num_states: int) -> jax.Array:
    shape = listed.next_states.shape
    flat = listed.next_states.reshape(-1, shape[-1])
    rows = jnp.arange(len(flat))[:, None]
    matrix = jnp.zeros((len(flat), num_states), listed.probabilities.dtype)
    matrix = matrix.at[rows, flat].add(listed.probabilities.reshape(flat.shape))
    return matrix.reshape(*shape[:-1], num_states)


@struct.dataclass
class MDP:
    """A finite Markov decision process, whole.

    What `transitions` and `rewards` hold at a terminal state does not count: its value
    is 0. Stack several with `jax.tree.map(lambda *x: jnp.stack(x), *mdps)` and vmap.

    Lists and NumPy arrays become JAX arrays of its default dtypes.

    Raises:
      ValueError: an array has another shape, is not finite or, for probabilities, does
        not sum to 1 to 1e-3; traced arrays are left alone.
    """

    transitions: jax.Array | SparseTransitions
    """P(s'|s,a), [S, A, S] floating, or the same as a list of outcomes."""
    rewards: jax.Array
    """R(s,a) = E[r|s,a], [S, A] floating."""
    terminal: jax.Array
    """[S] bool: the episode is over here."""
    initial: jax.Array
    """Probability that an episode starts here, [S] floating."""

    __repr__ = display.text
    _repr_html_ = display.html

    def __post_init__(self):
        leaves = jax.tree.leaves(self)
        if not any(isinstance(leaf, Tracer) for leaf in leaves):
            self._check_arrays()
        floating = jnp.result_type(float)
        object.__setattr__(self, "rewards", jnp.asarray(self.rewards, floating))
        object.__setattr__(self, "initial", jnp.asarray(self.initial, floating))
        object.__setattr__(self, "terminal", jnp.asarray(self.terminal))
        transitions = self.transitions
        if isinstance(transitions, SparseTransitions):
            transitions = SparseTransitions(
                jnp.asarray(transitions.next_states, jnp.int32),
                jnp.asarray(transitions.probabilities, floating),
            )
        else:
            transitions = jnp.asarray(transitions, floating)
        object.__setattr__(self, "transitions", transitions)

    def _check_arrays(self) -> None:
        rewards = checks.as_floats("MDP.rewards", self.rewards)
        if rewards.ndim != 2 or not np.isfinite(rewards).all():
            raise ValueError(
                f"MDP.rewards must be finite numbers [S, A], got shape {rewards.shape}"
                f"{'' if np.isfinite(rewards).all() else ' with NaN or infinity'}. For "
                "a batch of MDPs stack whole MDPs with jax.tree.map and vmap."
            )
        num_states, num_actions = rewards.shape
        self._check_distribution("initial", self.initial, (num_states,))
        terminal = np.asarray(self.terminal)
        if terminal.dtype != bool or terminal.shape != (num_states,):
            raise ValueError(
                f"MDP.terminal must be bool [{num_states}], got {terminal.dtype} "
                f"{list(terminal.shape)}."
            )
        if not isinstance(self.transitions, SparseTransitions):
            shape = (num_states, num_actions, num_states)
            self._check_distribution("transitions", self.transitions, shape)
        else:
            next_states = np.asarray(self.transitions.next_states)
            shape = (num_states, num_actions, *next_states.shape[2:3])
            self._check_distribution(
                "transitions.probabilities", self.transitions.probabilities, shape
            )
            inside = (next_states >= 0) & (next_states < num_states)
            if next_states.dtype.kind not in "iu" or next_states.shape != shape:
                raise ValueError(
                    "MDP.transitions.next_states must be integers "
                    f"{list(shape)}, got {next_states.dtype} {list(next_states.shape)}."
                )
            if not inside.all():
                raise ValueError(
                    "MDP.transitions.next_states must be states from 0 to "
                    f"{num_states - 1}, got {next_states[~inside][0]}."
                )

    def _check_distribution(
        self, name: str, value: Any, shape: tuple[int, ...]
    ) -> None:
        array = np.asarray(value)
        if array.shape != shape or array.dtype.kind not in "fiu":
            raise ValueError(
                f"MDP.{name} must be real numbers {list(shape)}, got {array.dtype} "
                f"{list(array.shape)}."
            )
        wrong = ~are_distributions(array)
        if wrong.any():
            where = np.argwhere(wrong)[0].tolist() if wrong.ndim else []
            raise ValueError(
                f"MDP.{name}{where or ''} must be probabilities that sum to 1, got "
                f"{array[tuple(where)]}. An absorbing state leads to itself."
            )

    @property
    def num_states(self) -> int:
        """S."""
        return self.rewards.shape[-2]

    @property
    def num_actions(self) -> int:
        """A."""
        return self.rewards.shape[-1]


def from_outcomes(
    next_states: Any,
    probabilities: Any,
    rewards: Any,
    terminal: Any,
    initial: Any,
    *,
    sparse: bool,
) -> MDP:
    """An MDP from K outcomes for each state and action.

    Terminal states are made absorbing, and what is earned there is 0.

    Args:
      next_states: [S, A, K] int32.
      probabilities: floating, broadcasts to [S, A, K].
      rewards: [S, A] floating, of terminal states too.
      terminal: [S] bool.
      initial: [S] floating.
      sparse: whether the transitions stay a list instead of [S, A, S].

    Raises:
      ValueError: the dense model would have more than 2²⁸ entries.
    """
    num_states, num_actions, _ = next_states.shape
    entries = num_states * num_actions * num_states
    if not sparse and entries > _MAX_DENSE_ENTRIES:
        raise ValueError(
            f"a dense model of {num_states} states has {entries:,} entries, more than "
            f"{_MAX_DENSE_ENTRIES:,}. Use to_mdp(sparse=True)."
        )
    terminal = jnp.asarray(terminal)
    states = jax.lax.iota(jnp.int32, num_states)[:, None, None]
    ended = terminal[:, None, None]
    listed = SparseTransitions(
        jnp.where(ended, states, jnp.asarray(next_states, jnp.int32)),
        jnp.broadcast_to(jnp.asarray(probabilities, float), next_states.shape),
    )
    return MDP(
        transitions=listed if sparse else listed.dense(num_states),
        rewards=jnp.where(terminal[:, None], 0, jnp.asarray(rewards, float)),
        terminal=terminal,
        initial=jnp.asarray(initial, float),
    )


def are_distributions(array: np.ndarray) -> np.ndarray:
    """Whether each row [..., S] is 0 or more and sums to 1 to 1e-3, [...] bool."""
    return (np.abs(array.sum(-1) - 1) < 1e-3) & (array >= 0).all(-1)


def require_mdp(mdp: Any) -> None:
    """Raises TypeError or ValueError unless this is one MDP."""
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
