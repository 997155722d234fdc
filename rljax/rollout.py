"""Experience: an agent acting in environments, and learning from it as it goes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, contract, random, spaces
from rljax.returns import RunningSum, empty_sum
from rljax.types import Agent, EnvLike, RolloutPlan, Transition

Record = Callable[[Any, Transition], Any]


class RolloutState(NamedTuple):
    """Where one environment stands between two rollouts."""

    env_state: Any
    obs: Any
    """What the agent sees next."""
    memory: Any
    """What the agent remembers of the running episode; () for most agents."""
    episode_return: RunningSum
    """[] floating: undiscounted rewards of the running episode so far."""
    episode_length: jax.Array
    """[] int32: its steps so far."""


class EpisodeSums(NamedTuple):
    """Sums over the episodes that ended; 0 before the first one does."""

    num_episodes: jax.Array
    """[] int32."""
    episode_return_sum: jax.Array
    """[] floating, of undiscounted returns."""
    episode_length_sum: jax.Array
    """[] int32. Like the length of an episode, it stays at 2³¹ − 1 once it is there."""


class Experience(NamedTuple):
    """What `interact` returns."""

    agent_state: Any
    """After the last update."""
    rollout_state: RolloutState
    """Where to go on from, leaves [N, …]."""
    sums: EpisodeSums
    """Over the episodes that ended, leaves [N]."""
    metrics: dict[str, jax.Array]
    """Means over the updates, scalars by name."""
    records: Any
    """[T, N, …] what `record` returned, or None."""


class Noise(NamedTuple):
    """All randomness of a rollout, drawn before it starts, leaves [T, …]."""

    act: Any
    """Of the decisions."""
    step: Any
    """Of the environment's steps."""
    fresh: tuple[Any, Any]
    """(state, obs) of a reset for each step, should an episode end there."""


def start(env: EnvLike, key: jax.Array, memory: Any = ()) -> RolloutState:
    """Resets one environment; `memory` is what the agent starts an episode with."""
    env_state, obs = contract.reset(env, key)
    length = jnp.zeros((), jnp.int32)
    return RolloutState(env_state, obs, memory, empty_sum(), length)


def start_all(
    agent: Agent, agent_state: Any, env: EnvLike, key: jax.Array
) -> RolloutState:
    """Resets all environments of the agent's plan, leaves [N, …]."""
    plan = agent.rollout_plan
    keys = random.split(key, plan.num_envs // plan.group_size)
    if plan.group_size > 1:
        keys = keys[jnp.arange(plan.num_envs) // plan.group_size]
    return jax.vmap(lambda k: start(env, k, agent.init_memory(agent_state)))(keys)


def unroll(
    agent: Agent,
    agent_state: Any,
    env: EnvLike,
    rollout_state: RolloutState,
    key: jax.Array,
    *,
    length: int,
) -> tuple[RolloutState, Transition, EpisodeSums]:
    """Takes `length` steps in one environment, resetting after each done one.

    Nothing is learned. `Transition.next_obs` is the true successor; the fresh
    observation after a reset appears only as the next transition's `obs`. Beside the
    trajectory, `length` fresh environment states are held in memory while it runs.

    Args:
      agent: acts through `agent.decide`, which is `agent.act` for most.
      agent_state: from `agent.init` or `agent.update`.
      env: environment.
      rollout_state: from `start` or an earlier `unroll`.
      key: random key.
      length: number of steps, T.

    Returns:
      The state to go on from, the trajectory [T, …], and the sums over the episodes
      that ended in it, their steps from earlier rollouts included.
    """

    def step(state, noise):
        return _step(agent, agent_state, env, state, noise)

    noise = _draw(agent, agent_state, env, key, length)
    state, trajectory = jax.lax.scan(step, rollout_state, noise)
    state, sums = _count(state, _no_episodes(()), trajectory, first_only=False)
    return state, trajectory, _episode_sums(sums)


def interact(
    agent: Agent,
    agent_state: Any,
    env: EnvLike,
    rollout_state: RolloutState,
    key_unroll: jax.Array,
    key_update: jax.Array,
    *,
    plan: RolloutPlan | None = None,
    record: Record | None = None,
) -> Experience:
    """Acts and learns in turn, as the plan says: the one loop of all training.

        repeat T / k times:  k steps in each of N environments, then agent.update

    with T = `plan.rollout_length` and k = `plan.block`. Every step acts with what all
    updates before it have learned.

    Args:
      agent: see `types.Agent`.
      agent_state: from `agent.init` or an earlier update.
      env: environment.
      rollout_state: from `start_all` or an earlier call, leaves [N, …].
      key_unroll: random key of the steps.
      key_update: random key of the updates.
      plan: None: `agent.rollout_plan`.
      record: a function of (env_state, transition) of one environment, the state being
        the one that the step was taken from, whose results are kept.
    """
    plan = agent.rollout_plan if plan is None else plan

    def block(agent_state, state, sums, noise, key):
        (state, sums), (trajectory, records) = _steps(
            agent, agent_state, env, state, sums, noise, plan, record
        )
        agent_state, metrics = contract.update(agent, agent_state, trajectory, key)
        return Experience(agent_state, state, sums, metrics, records)

    noise = _draw_all(agent, agent_state, env, key_unroll, plan)
    sums = _no_episodes((plan.num_envs,))
    args = (agent_state, rollout_state, sums, noise, key_update)
    once = plan.block == plan.rollout_length
    done = block(*args) if once else _repeat(block, *args, plan)
    sums = _episode_sums(done.sums)
    space = env.observation_space
    if isinstance(space, spaces.Discrete):
        known = jnp.all(contract.is_known(space, noise.fresh[1]))
        known &= jnp.all(contract.is_known(space, rollout_state.obs))
        total = jnp.where(known, sums.episode_return_sum, jnp.nan)
        sums = sums._replace(episode_return_sum=total)
    return done._replace(sums=sums)


def draw(agent: Agent, agent_state: Any, env: EnvLike, key_unroll: jax.Array) -> Noise:
    """The randomness of one rollout of the agent's plan, leaves [T, N, …].

    It is what `interact` draws from the same key, for whoever wants to take the steps
    one at a time, with `step_all`, and to stop between any two.
    """
    return _draw_all(agent, agent_state, env, key_unroll, agent.rollout_plan)


def step_all(
    agent: Agent,
    agent_state: Any,
    env: EnvLike,
    rollout_state: RolloutState,
    noise: Noise,
) -> tuple[RolloutState, Transition, EpisodeSums]:
    """One step of all environments, with a reset where it ended an episode.

    `draw`, T of these, one for each element of the noise, and `agent.update` are what
    `interact` does where its plan asks for one update: the same numbers, to rounding,
    which may be another where a program is compiled apart.

    Args:
      agent: see `types.Agent`.
      agent_state: from `agent.init` or an earlier update.
      env: environment.
      rollout_state: from `start_all` or an earlier call, leaves [N, …].
      noise: one element of what `draw` returned, leaves [N, …].

    Returns:
      The state to go on from, the transitions, and the sums over the episodes that this
      step ended, all with leaves [N, …].
    """
    state, transition = _over_envs(
        lambda *one: _step(agent, agent_state, env, *one), rollout_state, noise
    )
    trajectory = jax.tree.map(lambda x: x[None], transition)
    none = _no_episodes(state.episode_length.shape)
    state, sums = _count(state, none, trajectory, first_only=False)
    return state, transition, _episode_sums(sums)


def _steps(agent, agent_state, env, state, sums, noise, plan, record) -> Any:
    """`plan.block` steps: ((state, sums), (trajectory, records)), [N] and [k, N]."""

    if record is None:
        state, trajectory = agent.whole_rollout(agent_state, env, state, noise, _loop)
        records = None
    else:
        args = (agent, agent_state, env, state, noise)
        state, (trajectory, records) = _loop(*args, record)
    # With fresh episodes, only the first one counts. A rollout that begins with a reset
    # has more room for short episodes than for long ones, so a mean over all that ended
    # in it would be too low.
    counted = _count(state, sums, trajectory, first_only=plan.fresh_episodes)
    return counted, (trajectory, records)


def _loop(agent, agent_state, env, state, noise, record=None) -> Any:
    """(state, trajectory [k, N]), with `record` (state, (trajectory, records))."""

    def step(state, noise):
        next_state, transition = _over_envs(
            lambda *one: _step(agent, agent_state, env, *one), state, noise
        )
        if record is None:
            return next_state, transition
        return next_state, (transition, jax.vmap(record)(state.env_state, transition))

    return loop(step, state, noise, len(jax.tree.leaves(noise)[0]))


def _repeat(block, agent_state, rollout_state, sums, noise, key, plan):
    """`interact` with several updates: their metrics are summed up, not kept."""
    num_blocks = plan.rollout_length // plan.block
    noise = jax.tree.map(
        lambda x: x.reshape(num_blocks, plan.block, *x.shape[1:]), noise
    )
    keys = random.split(key, num_blocks)

    def one(carry, xs):
        *start, totals = carry
        done = block(*start, *xs)
        totals = jax.tree.map(jnp.add, totals, done.metrics)
        return (done.agent_state, done.rollout_state, done.sums, totals), done.records

    first = jax.tree.map(lambda x: x[0], (noise, keys))
    shapes = jax.eval_shape(lambda: block(agent_state, rollout_state, sums, *first))
    # Floating, as a sum of integers could overflow where their mean does not.
    totals = jax.tree.map(
        lambda x: jnp.zeros(x.shape, jnp.result_type(x.dtype, 1.0)), shapes.metrics
    )
    carry = (agent_state, rollout_state, sums, totals)
    (agent_state, rollout_state, sums, totals), records = jax.lax.scan(
        one, carry, (noise, keys)
    )
    metrics = jax.tree.map(lambda total: total / num_blocks, totals)
    records = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), records)
    return Experience(agent_state, rollout_state, sums, metrics, records)


def _draw_all(agent, agent_state, env, key, plan) -> Noise:
    """The noise of all environments' rollouts, leaves [T, N, …]."""

    def draw(key):
        return _draw(agent, agent_state, env, key, plan.rollout_length)

    if plan.num_envs == 1:  # needs no further key, which takes time to compile
        return jax.tree.map(lambda x: x[:, None], draw(key))
    return jax.vmap(draw, out_axes=1)(random.split(key, plan.num_envs))


def _draw(agent, agent_state, env, key, length) -> Noise:
    """The noise of one environment's rollout, leaves [T, …].

    It is all drawn at once and before the loop, which spares the loop most of its
    random words. It is drawn as three separate streams, so that the compiler can drop
    those that are not used.
    """
    key_act, key_step, key_reset = random.split(key, 3)
    return Noise(
        agent.draw(agent_state, (length,), key_act),
        contract.draw_noise(env, (length,), key_step),
        jax.vmap(env.reset)(random.split(key_reset, length)),
    )


def _step(agent, agent_state, env, state, noise):
    """One step of one environment, and a reset where it ended an episode.

    The return and length of the episode are left as they are, see `_count`.
    """
    action, extras, memory = contract.decide(
        agent, agent_state, state.obs, noise.act, state.memory
    )
    env_state, time_step = contract.advance(env, state.env_state, action, noise.step)
    transition = Transition(
        obs=state.obs,
        action=action,
        reward=time_step.reward,
        terminated=time_step.terminated,
        truncated=time_step.truncated,
        next_obs=time_step.obs,
        extras=extras,
    )
    stepped = (env_state, time_step.obs)
    name = type(env).__name__
    contract.check_alike(f"{name}.step's (state, obs)", stepped, noise.fresh, "reset")
    done = time_step.terminated | time_step.truncated
    (env_state, obs), memory = jax.tree.map(
        lambda fresh, stepped: jnp.where(done, fresh, stepped),
        (noise.fresh, agent.init_memory(agent_state)),
        (stepped, memory),
    )
    return state._replace(env_state=env_state, obs=obs, memory=memory), transition


def _over_envs(fn, state, noise):
    """vmap over [N], but not for a single environment.

    Without the batch axis, XLA sees that acting and learning read one and the same row
    of a table, and updates the table in place.
    """
    if len(state.episode_length) > 1:
        return jax.vmap(fn)(state, noise)
    one = fn(*jax.tree.map(lambda x: x[0], (state, noise)))
    return jax.tree.map(lambda x: x[None], one)


def loop(fn: Any, carry: Any, xs: Any, length: int) -> tuple[Any, Any]:
    """lax.scan over xs [length, …]; a single step is no loop."""
    if length > 1:
        return jax.lax.scan(fn, carry, xs)
    carry, y = fn(carry, jax.tree.map(lambda x: x[0], xs))
    return carry, jax.tree.map(lambda x: x[None], y)


# While a rollout runs, the sums over its episodes are a triple as `EpisodeSums`, but
# with a `RunningSum` of the returns.


def _no_episodes(shape: tuple[int, ...]) -> tuple[jax.Array, RunningSum, jax.Array]:
    zero = jnp.zeros(shape, jnp.int32)
    return zero, empty_sum(shape), zero


def _count(state, sums, trajectory, *, first_only):
    """Adds k steps to the running episodes, and to the sums the episodes that ended.

    This is done for all k steps at once and not in the loop over them: there XLA would
    compute the environment's step again for each number that it carries on.

    Args:
      state: leaves [...], after the steps, but with the episodes as before them.
      sums: leaves [...].
      trajectory: leaves [k, ...].
      first_only: whether no more than one episode counts in all calls together.

    Returns:
      (state, sums).
    """
    done = trajectory.terminated | trajectory.truncated
    num_steps = len(done)
    step = jax.lax.broadcasted_iota(jnp.int32, done.shape, 0)
    last = jnp.max(jnp.where(done, step, -1), axis=0)
    any_done = last >= 0

    def total(mask):
        return jnp.sum(jnp.where(mask, rewards, 0), axis=0)

    def broadcast(time):
        return jnp.broadcast_to(time, step.shape)

    running, length = state.episode_return, state.episode_length
    rewards = trajectory.reward.astype(running.total.dtype)
    num_episodes, return_sum, length_sum = sums
    counts, until, number = any_done, last, jnp.sum(done, axis=0, dtype=jnp.int32)
    if first_only:
        counts = any_done & (num_episodes == 0)
        until = jnp.min(jnp.where(done, step, num_steps), axis=0)
        number = counts.astype(jnp.int32)
    ended = running.value + total(step <= broadcast(until))
    sums = (
        num_episodes + number,
        return_sum.add(jnp.where(counts, ended, 0)),
        _capped_sum(length_sum, jnp.where(counts, _capped_sum(length, until + 1), 0)),
    )
    rest = total(step > broadcast(last))
    new_return, old_return = RunningSum(rest, jnp.zeros_like(rest)), running.add(rest)
    state = state._replace(
        episode_return=jax.tree.map(
            lambda new, old: jnp.where(any_done, new, old), new_return, old_return
        ),
        episode_length=jnp.where(
            any_done, num_steps - 1 - last, _capped_sum(length, num_steps)
        ),
    )
    return state, sums


def _capped_sum(a: jax.Array, b: Any) -> jax.Array:
    """a + b of int32 numbers of 0 or more, but 2³¹ − 1 at most."""
    return a + jnp.minimum(b, checks.LARGEST_INT - a)


def _episode_sums(sums) -> EpisodeSums:
    num_episodes, returns, lengths = sums
    return EpisodeSums(num_episodes, returns.value, lengths)
