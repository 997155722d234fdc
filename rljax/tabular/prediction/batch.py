"""Prediction from all steps of a trajectory at once."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, returns
from rljax.tabular import planning
from rljax.tabular.prediction.experience import bootstrap, checked
from rljax.types import MDP, Transition


class SampleMeans(NamedTuple):
    """Means of the returns that were seen."""

    values: jax.Array
    """[S] floating V."""
    counts: jax.Array
    """[S] integer N: of how many returns each is the mean."""


def monte_carlo(
    values: jax.Array,
    counts: jax.Array,
    trajectory: Transition,
    *,
    discount: jax.typing.ArrayLike,
    first_visit: bool = True,
) -> SampleMeans:
    """Monte-Carlo prediction: V(s) is the mean of the returns that followed s.

        N(s) ← N(s) + |𝒯(s)|,   V(s) ← V(s) + Σ_{t ∈ 𝒯(s)} [G_t − V(s)] / N(s)

    over the times 𝒯(s) of its visits, with the returns G_t of
    `returns.discounted_returns`. Start with counts of 0; what one trajectory gave goes
    on with the next.

    Args:
      values: [S] V so far; where N(s) is 0 it counts only if an episode was cut there.
      counts: [S] integer N so far.
      trajectory: leaves [T].
      discount: γ, scalar in [0, 1].
      first_visit: whether only a state's first visit in each episode counts, not all.

    Raises:
      TypeError: an argument is of another kind.
      ValueError: a shape does not fit, or a scalar or a state is out of range.

    Source: Sutton and Barto (2018), §5.1.
    """
    values, trajectory, (gamma,) = checked(values, trajectory, discount=discount)
    (counts,) = checks.integers(counts=counts)
    checks.same_shape(values=values, counts=counts)
    checks.boolean("first_visit", first_visit)
    return _monte_carlo(values, counts, trajectory, gamma, first_visit)


@functools.partial(jax.jit, inline=True, static_argnums=4)
def _monte_carlo(values, counts, trajectory, discount, first_visit):
    obs, ends = trajectory.obs, (trajectory.terminated, trajectory.truncated)
    found = returns.discounted_returns(
        trajectory.reward, values[trajectory.next_obs], *ends, discount
    )
    every = jnp.ones(len(obs), bool)
    counted = _is_first_visit(trajectory, len(values)) if first_visit else every
    counts = counts.at[obs].add(counted.astype(counts.dtype))
    changes = jnp.where(counted, found - values[obs], 0)
    total = jnp.zeros_like(values).at[obs].add(changes)
    mean = total / jnp.maximum(counts, 1).astype(total.dtype)
    return SampleMeans(values + mean, counts)


def _is_first_visit(trajectory: Transition, num_states: int) -> jax.Array:
    """Whether s_t is seen for the first time in its episode, [T] bool."""
    done = (trajectory.terminated | trajectory.truncated).astype(jnp.int32)
    episode = jnp.cumsum(done, dtype=jnp.int32) - done

    def visit(seen_in, step):
        state, episode = step
        return seen_in.at[state].set(episode), seen_in[state] != episode

    never = jnp.full(num_states, -1, jnp.int32)
    return jax.lax.scan(visit, never, (trajectory.obs, episode))[1]


def batch_td(
    values: jax.Array, trajectory: Transition, *, discount: jax.typing.ArrayLike
) -> jax.Array:
    """Where TD(0) ends that learns from one trajectory over and over again.

        Σ_{t: s_t = s} [r_t + γ (1 − terminated_t) V(s_{t+1}) − V(s)] = 0

    for each state s that was visited; the others keep their values. This is the
    certainty-equivalence estimate: the exact values of the process whose probabilities
    and mean rewards are those of the trajectory. `planning.policy_evaluation` finds
    them, and says what they are where γ = 1 and the trajectory stays for ever among
    some states.

    Args:
      values: [S] V to start from.
      trajectory: leaves [T].
      discount: γ, scalar in [0, 1].

    Returns:
      [S] floating V.

    Raises:
      TypeError: an argument is of another kind.
      ValueError: a shape does not fit, or a scalar or a state is out of range.

    Source: Sutton and Barto (2018), §6.3.
    """
    values, trajectory, (gamma,) = checked(values, trajectory, discount=discount)
    return _batch_td(values, trajectory, gamma)


@functools.partial(jax.jit, inline=True)
def _batch_td(values, trajectory, discount):
    obs, next_obs = trajectory.obs, trajectory.next_obs
    terminated = trajectory.terminated
    size = len(values) + 1  # the last state is the end of every episode
    counts = jnp.zeros((size, size), values.dtype)
    counts = counts.at[obs, jnp.where(terminated, size - 1, next_obs)].add(1)
    visits = jnp.sum(counts, axis=1, keepdims=True)
    unseen = visits[:, 0] == 0
    # What is planned is by how much values change, as unseen states keep theirs.
    errors = trajectory.reward - values[obs]
    errors += bootstrap(terminated, values[next_obs], discount)
    total = jnp.zeros(size, values.dtype).at[obs].add(errors)
    model = MDP(
        jnp.where(unseen[:, None], jnp.eye(size, dtype=values.dtype), counts / visits)[
            :, None
        ],
        jnp.where(unseen, 0, total / visits[:, 0])[:, None],
        terminal=unseen,
        initial=jnp.full(size, 1 / size),
    )
    policy = jnp.zeros(size, jnp.int32)
    plan = planning.policy_evaluation(model, policy, discount)
    return values + plan.values[:-1].astype(values.dtype)
