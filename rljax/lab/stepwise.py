"""Training that can stop after any step of the environment, and what it counted.

A training step of rljax is taken apart: `rollout.draw` draws the randomness of a
rollout, `rollout.step_all` takes one of its steps, and once it is full `agent.update`
learns from it. These are the functions that `rljax.train_step` is made of, with the
same random keys, so that an agent which nobody pushes is that of `rljax.train`, on a
CPU bit for bit: slow tests, which compile as users do, hold the three methods to that.
One thing is left out: an agent that begins every rollout with a reset, as REINFORCE
does, learns from its first episode alone, so the steps after it are not played.

Everything is compiled here once for all who look.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rljax import random, rollout
from rljax.training import init_train, train_step
from rljax.types import TrainState, Transition

BINS = 256
"""Of what is counted by the step at which it happened."""


class Training(NamedTuple):
    """A training that may stand between any two steps of a rollout."""

    train_state: TrainState
    """Its key is that of the next update."""
    noise: rollout.Noise
    """Of the running rollout, leaves [T, N, …]."""
    key_update: jax.Array
    """Of the update that ends it."""
    trajectory: Transition
    """[T, N, …], the steps of the rollout so far; beyond them what was there before."""
    time: jax.Array
    """[] int32: steps of the rollout so far; −1 before the first one has begun."""


class Tally(NamedTuple):
    """What was counted in some steps of environment 0."""

    counts: jax.Array
    """[`BINS`] int32: episodes by the bin in which they ended."""
    sums: jax.Array
    """[`BINS`] int32: the sums of their lengths."""
    steps: jax.Array
    """[] int32."""
    updates: jax.Array
    """[] int32: how often the agent learned."""
    longest: jax.Array
    """[] int32: steps of the longest of these episodes."""
    last: jax.Array
    """[] int32: steps of the last one."""
    fallen: jax.Array
    """[4] the observation at its end."""
    action: jax.Array
    """[] int32: the last action."""


@jax.jit
def start(agent, env, key):
    """A training whose first rollout has yet to begin, see `advance`.

    It begins there and not here to be compiled once.
    """
    state = init_train(agent, env, key)

    def shapes():
        begun = _begin(agent, env, state, None)
        args = (agent, state.agent_state, env, state.rollout_state)
        noise = jax.tree.map(lambda x: x[0], begun.noise)
        return begun.noise, rollout.step_all(*args, noise)[1]

    def blank(x, *lengths):
        if random.is_typed_key(x):
            return jnp.broadcast_to(key, x.shape)
        return jnp.zeros((*lengths, *x.shape), x.dtype)

    noise, transition = jax.eval_shape(shapes)
    trajectory = jax.tree.map(
        lambda x: blank(x, agent.rollout_plan.rollout_length), transition
    )
    return Training(state, jax.tree.map(blank, noise), key, trajectory, jnp.int32(-1))


def _begin(agent, env, state, trajectory):
    """The start of a rollout, with the keys of `train_step`."""
    key_reset, key_unroll, key_update, key = random.split(state.key, 4)
    if agent.rollout_plan.fresh_episodes:
        fresh = rollout.start_all(agent, state.agent_state, env, key_reset)
        state = state._replace(rollout_state=fresh)
    noise = rollout.draw(agent, state.agent_state, env, key_unroll)
    zero = jnp.zeros((), jnp.int32)
    return Training(state._replace(key=key), noise, key_update, trajectory, zero)


def _learn(agent, env, training):
    """The update at the end of a rollout, if there was one; the next one begins."""
    state, _, key, trajectory, time = training
    agent_state = jax.lax.cond(
        time >= 0,
        lambda: agent.update(state.agent_state, trajectory, key)[0],
        lambda: state.agent_state,
    )
    return _begin(agent, env, state._replace(agent_state=agent_state), trajectory)


@jax.jit
def advance(agent, env, training, num_steps, until_end, width, offset):
    """Takes `num_steps` steps: (training, `Tally`). All numbers may be traced.

    A rollout begins as soon as the one before it was learned from, the first one with
    the first call, even if that is of 0 steps.

    Args:
      agent: with one update for each rollout.
      env: environment.
      training: to go on from.
      num_steps: how many, of each environment.
      until_end: whether to stop after the first that ends an episode.
      width: of the tally's bins, in steps.
      offset: how far into the first bin one is already.
    """
    plan = agent.rollout_plan

    def is_over(training, ended):
        time = training.time
        over = (time < 0) | (time == plan.rollout_length)
        # Nothing after its first episode is learned from: see the module's docstring.
        return over | (ended & (time > 0) & plan.fresh_episodes)

    def goes_on(carry):
        _, tally, ended = carry
        return (tally.steps < num_steps) & ~(ended & until_end)

    def step(carry):
        training, tally, _ = carry
        state, time = training.train_state, training.time
        noise = jax.tree.map(lambda x: x[time], training.noise)
        rollout_state, transition, episodes = rollout.step_all(
            agent, state.agent_state, env, state.rollout_state, noise
        )
        training = training._replace(
            train_state=state._replace(rollout_state=rollout_state),
            trajectory=jax.tree.map(
                lambda all_, x: all_.at[time].set(x), training.trajectory, transition
            ),
            time=time + 1,
        )
        tally = _counted(tally, transition, episodes, (offset + tally.steps) // width)
        return training, tally, episodes.num_episodes[0] > 0

    def rollout_and_update(carry):
        training, tally, ended = jax.lax.while_loop(
            lambda carry: goes_on(carry) & ~is_over(carry[0], carry[2]), step, carry
        )
        over = is_over(training, ended)
        learned = over & (training.time >= 0)
        training = jax.lax.cond(
            over, lambda t: _learn(agent, env, t), lambda t: t, training
        )
        return training, tally._replace(updates=tally.updates + learned), ended

    carry = (training, _nothing(), jnp.bool_(False))
    training, tally, _ = jax.lax.while_loop(
        lambda carry: goes_on(carry) | (carry[0].time < 0), rollout_and_update, carry
    )
    return training, tally


def _nothing() -> Tally:
    zero, bins = jnp.zeros((), jnp.int32), jnp.zeros(BINS, jnp.int32)
    return Tally(bins, bins, zero, zero, zero, zero, jnp.zeros(4), zero)


def _counted(tally, transition, episodes, where):
    """The tally with one more step."""
    ended, length = episodes.num_episodes[0], episodes.episode_length_sum[0]
    return tally._replace(
        counts=tally.counts.at[where].add(ended),
        sums=tally.sums.at[where].add(length),
        steps=tally.steps + 1,
        longest=jnp.maximum(tally.longest, length),
        last=jnp.where(ended > 0, length, tally.last),
        fallen=jnp.where(ended > 0, transition.next_obs[0], tally.fallen),
        action=transition.action[0].astype(jnp.int32),
    )


@jax.jit
def start_many(agent, env, keys):
    """`rljax.init_train` of many seeds, leaves [seeds, …]."""
    return jax.vmap(lambda key: init_train(agent, env, key))(keys)


@jax.jit
def advance_many(agent, env, states, goals, width, offsets):
    """Whole updates of each seed until it has taken as many steps as its goal says.

    Returns:
      The states, and of each seed the episodes and the sums of their lengths by the bin
      of the steps that they ended in, [seeds, BINS], and the steps taken, [seeds].
    """
    plan = agent.rollout_plan

    def update(carry, offset):
        state, counts, sums, steps = carry
        state, metrics = train_step(agent, env, state)
        length = metrics.episode_length_sum.astype(jnp.int32)
        steps += length if plan.fresh_episodes else plan.rollout_length
        where = (offset + steps - 1) // width
        counts = counts.at[where].add(metrics.num_episodes)
        return state, counts, sums.at[where].add(length), steps

    def one_seed(state, goal, offset):
        nothing = _nothing()
        return jax.lax.while_loop(
            lambda carry: carry[3] < goal,
            lambda carry: update(carry, offset),
            (state, nothing.counts, nothing.sums, nothing.steps),
        )

    return jax.vmap(one_seed)(states, goals, offsets)
