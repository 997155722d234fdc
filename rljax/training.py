"""Training: one pure function of an agent, an environment and a key."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rljax import checks, contract, display, random, rollout
from rljax.evaluation import KeepBest
from rljax.types import Agent, EnvLike, TrainState

Measure = Callable[[Any, Any, Any], dict[str, jax.Array]]
"""A pure function of (agent, env, agent_state) that returns scalars by name."""


class Metrics(NamedTuple):
    """One update's metrics; `train` stacks them to [num_updates].

    Episodes come as sums, so that any window, over updates or seeds, has an exact mean
    and an update in which no episode ended says so with a count of 0.
    """

    num_episodes: jax.Array
    """[] int32: episodes that ended during this update's rollout."""
    episode_return_sum: jax.Array
    """[] floating: sum of their undiscounted returns."""
    episode_length_sum: jax.Array
    """[] floating: sum of their lengths, in steps."""
    agent: dict[str, jax.Array]
    """What `agent.update` reports, scalars."""

    _also = ("episode_return", "episode_length")
    __repr__ = display.text
    _repr_html_ = display.html

    @property
    def episode_return(self) -> jax.Array:
        """Mean return of the episodes that ended, NaN where none did."""
        return _mean(self.episode_return_sum, self.num_episodes)

    @property
    def episode_length(self) -> jax.Array:
        """Mean length of the episodes that ended, NaN where none did."""
        return _mean(self.episode_length_sum, self.num_episodes)


def _mean(total, count):
    floor = jnp.maximum(count, 1).astype(jnp.result_type(total))
    with jax.debug_nans(False):  # here NaN is meant
        return jnp.where(count > 0, total / floor, jnp.nan)


def init_train(agent: Agent, env: EnvLike, key: jax.Array) -> TrainState:
    """An untrained agent and freshly reset environments.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    contract.require(agent, env, key)
    return _init(agent, env, key)


def _init(agent, env, key):
    contract.require_agent(agent)  # once more, as a plan must not be traced
    key_agent, key_reset, key = random.split(key, 3)
    agent_state = agent.init(key_agent, env)
    rollout_state = rollout.start_all(agent, agent_state, env, key_reset)
    return TrainState(agent_state, rollout_state, key)


def train_step(
    agent: Agent,
    env: EnvLike,
    train_state: TrainState,
    *,
    measure: Measure | None = None,
) -> tuple[TrainState, Metrics]:
    """One training update: a rollout as the agent's plan says, learned from.

    Not jitted: jit it, or a scan over it, with the state donated if memory is short.
    `measure` is as in `train`.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    _check_train_state(agent, env, train_state)
    key_reset, key_unroll, key_update, key = random.split(train_state.key, 4)
    agent_state, rollout_state, *_ = train_state
    if agent.rollout_plan.fresh_episodes:
        rollout_state = rollout.start_all(agent, agent_state, env, key_reset)
    done = rollout.interact(
        agent, agent_state, env, rollout_state, key_unroll, key_update
    )
    agent_metrics = _measured(measure, agent, env, done.agent_state, done.metrics)
    num_episodes, return_sum, length_sum = done.sums
    metrics = Metrics(
        jnp.sum(num_episodes, dtype=num_episodes.dtype),
        jnp.sum(return_sum),
        # Floating, as a sum of integers over many environments might overflow.
        jnp.sum(length_sum, dtype=return_sum.dtype),
        agent_metrics,
    )
    best = train_state.best
    return TrainState(done.agent_state, done.rollout_state, key, best), metrics


def train_steps(
    agent: Agent,
    env: EnvLike,
    train_state: TrainState,
    *,
    num_updates: int,
    measure: Measure | None = None,
    keep_best: KeepBest | None = None,
) -> tuple[TrainState, Metrics]:
    """A scan over `train_step`; not jitted. Metrics have leaves [num_updates].

    `keep_best` counts the updates of this call.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    num_updates = checks.integer(
        "num_updates", num_updates, minimum=0, maximum=checks.LARGEST_INT
    )

    def update(state, number):
        state, metrics = train_step(agent, env, state, measure=measure)
        if keep_best is not None:
            state = keep_best.update(agent, env, state, number)
        return state, metrics

    numbers = None if keep_best is None else jnp.arange(1, num_updates + 1)
    if keep_best is not None:
        train_state = keep_best.start(train_state)
    return jax.lax.scan(update, train_state, numbers, length=num_updates)


def train_for(
    agent: Agent, env: EnvLike, train_state: TrainState, num_updates: Any
) -> tuple[TrainState, Metrics]:
    """Goes on training for a number of updates, in one program for all numbers.

    For whoever looks at an agent between some updates and others, as a page or a
    notebook does: one more, then ten, then a thousand compile nothing anew, and lead to
    the state that `train` ends with after as many in all.

    Args:
      agent: learning rule. Another float, such as its step size, compiles nothing.
      env: environment.
      train_state: from `init_train` or an earlier call.
      num_updates: scalar integer of 0 or more; may be traced.

    Returns:
      The state, and metrics [] over these updates: the sums of episodes, of their
      returns and of their lengths, and the means of what the agent measured, NaN after
      no update.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    _check_train_state(agent, env, train_state)
    if not isinstance(num_updates, Tracer | jax.Array):
        num_updates = checks.integer("num_updates", num_updates, minimum=0)
    return _train_for(agent, env, train_state, num_updates)


@jax.jit
def _train_for(agent, env, train_state, num_updates):
    def update(_, carry):
        state, totals = carry
        state, metrics = train_step(agent, env, state)
        return state, jax.tree.map(lambda t, m: t + m.astype(t.dtype), totals, metrics)

    shapes = jax.eval_shape(lambda: train_step(agent, env, train_state)[1])
    totals = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    # Floating, as a sum of integers could overflow where their mean does not.
    totals = totals._replace(
        agent={n: x.astype(jnp.result_type(float)) for n, x in totals.agent.items()}
    )
    state, totals = jax.lax.fori_loop(0, num_updates, update, (train_state, totals))
    means = {n: total / num_updates for n, total in totals.agent.items()}
    return state, totals._replace(agent=means)


def train(
    agent: Agent,
    env: EnvLike,
    key: jax.Array,
    *,
    num_updates: int | None = None,
    num_steps: int | None = None,
    measure: Measure | None = None,
    keep_best: KeepBest | None = None,
) -> tuple[TrainState, Metrics]:
    """Trains from scratch, in one compiled program.

    Pure, so `vmap` over keys, hyperparameters or physics, `grad` and `jit` apply. It
    compiles once for each structure of its arguments (a new lambda as an optimiser is a
    new structure): another float costs nothing. The same key on the same device and
    versions gives bitwise the same result.

    `grad` is that of the computation as it ran, with the sampled actions held fixed: it
    flows through parameters, not through what other actions would have earned. A
    smooth function of the final parameters has a meaningful gradient, an empirical
    mean of CartPole's constant rewards has 0.

    Args:
      agent: learning rule.
      env: environment.
      key: random key, typed or legacy.
      num_updates: number of updates, 0 or more, of `agent.steps_per_update` =
        rollout_length × num_envs environment steps each.
      num_steps: in its place, the number of environment steps; the last update is done
        whole.
      measure: a pure function of (agent, env, agent_state) that returns scalars by
        name; called after each update, inside the compiled program, its results join
        `metrics.agent`. Such as `rlhf.optimum.measure`.
      keep_best: how often to compare agent states, and by what; the best one is then in
        the final state's `best`. The training itself stays the same.

    Returns:
      The final state, and metrics with leaves [num_updates].

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    contract.require(agent, env, key)
    num_updates = count_updates(
        contract.require_agent(agent).num_steps, num_updates, num_steps
    )
    check_measure(measure)
    check_keep_best(keep_best, num_updates)
    state, metrics = _train(agent, env, key, num_updates, measure, keep_best)
    warn_if_no_episode_ended(agent, metrics)
    return state, metrics


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _train(agent, env, key, num_updates, measure, keep_best):
    return train_steps(
        agent,
        env,
        _init(agent, env, key),
        num_updates=num_updates,
        measure=measure,
        keep_best=keep_best,
    )


def count_updates(
    steps_per_update: int, num_updates: int | None, num_steps: int | None
) -> int:
    """`num_updates`, or as many as take at least `num_steps`.

    Raises:
      TypeError, ValueError: not exactly one of the two is given, or it is no integer of
        0 or more.
    """
    if (num_updates is None) == (num_steps is None):
        raise TypeError(
            "one of num_updates and num_steps must be given, got num_updates="
            f"{num_updates!r} and num_steps={num_steps!r}."
        )
    if num_updates is not None:
        most = checks.LARGEST_INT
        return checks.integer("num_updates", num_updates, minimum=0, maximum=most)
    most = checks.LARGEST_INT * steps_per_update
    num_steps = checks.integer("num_steps", num_steps, minimum=0, maximum=most)
    return -(-num_steps // steps_per_update)


def warn_if_no_episode_ended(
    agent: Agent, metrics: Metrics, where: str = "", *, stacklevel: int = 3
) -> None:
    """Warns where an agent of whole episodes has only seen beginnings."""
    plan, counts = agent.rollout_plan, metrics.num_episodes
    if not plan.fresh_episodes or isinstance(counts, Tracer) or not counts.size:
        return
    if not counts.any():
        warnings.warn(
            f"{where}no episode ended in any update: {type(agent).__name__}."
            f"rollout_length = {plan.rollout_length} cuts them all, so it has learned "
            "from their first steps alone. Make it as long as an episode may be.",
            stacklevel=stacklevel,
        )


def check_keep_best(keep_best: Any, num_updates: int) -> None:
    """Raises unless `keep_best` is None or a `KeepBest` that will keep something."""
    if keep_best is None:
        return
    if not isinstance(keep_best, KeepBest):
        raise TypeError(
            f"keep_best must be an rljax.KeepBest(every=10), say, got {keep_best!r}."
        )
    if keep_best.every > num_updates:
        raise ValueError(
            f"keep_best.every must be at most num_updates = {num_updates}, got "
            f"{keep_best.every}: no state would be scored."
        )


def check_measure(measure: Any) -> None:
    """Raises TypeError unless `measure` is None or a function."""
    if measure is not None and not callable(measure):
        raise TypeError(
            "measure must be a function of (agent, env, agent_state) that returns "
            f"scalars by name, got {measure!r}."
        )


def _check_train_state(agent: Agent, env: EnvLike, train_state: Any) -> None:
    num_envs = contract.require_agent(agent).num_envs
    contract.require_env(env)
    if not isinstance(train_state, TrainState):
        raise TypeError(
            "train_state must come from rljax.init_train(agent, env, key), got a "
            f"{type(train_state).__name__}."
        )
    shape = jnp.shape(train_state.rollout_state.episode_length)
    if shape != (num_envs,):
        raise ValueError(
            f"train_state must be of {type(agent).__name__}.num_envs = {num_envs} "
            f"environments, is of shape {shape}. Make it with rljax.init_train(agent, "
            "env, key); of several seeds, vmap train_step."
        )


def _measured(measure, agent, env, agent_state, metrics):
    """The agent's metrics, and what `measure` says besides."""
    if measure is None:
        return metrics
    with contract.naming_branches("measure"):
        found = measure(agent, env, agent_state)
    if not isinstance(found, dict) or not all(isinstance(n, str) for n in found):
        raise TypeError(
            f"measure must return a dictionary of scalars by name, returned {found!r}."
        )
    shapes = {name: jnp.shape(value) for name, value in found.items()}
    for name, shape in shapes.items():
        if shape or name in metrics:
            raise ValueError(
                "measure must return scalars under names that the agent's metrics "
                f"({', '.join(metrics)}) have not, returned {name!r} of shape {shape}."
            )
    dtype = jnp.result_type(float)
    return metrics | {name: jnp.asarray(x, dtype) for name, x in found.items()}
