"""Learning to balance a pole, a step or thousands at a time, by one of three methods.

No page and no clock is in here: whoever draws asks a `Learner` to go on by so many
steps, and reads what it holds. Every number comes from rljax's public functions. The
agent that is seen learns as `rljax.train` has it learn, see `stepwise`; the other seeds
take whole updates of `rljax.train_step`.
"""

import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax.agents import PPO, ActorCritic, Reinforce
from rljax.envs.cartpole import CartPole
from rljax.envs.wrappers import TimeLimit
from rljax.lab import stepwise
from rljax.lab.stepwise import BINS
from rljax.types import TrainState

LIMIT = 500
"""Steps after which an episode is cut, as in CartPole-v1."""
METHODS: dict[str, Any] = {
    "REINFORCE": Reinforce(num_envs=1, rollout_length=LIMIT, learning_rate=2e-3),
    "actor-critic": ActorCritic(num_envs=1, rollout_length=128, learning_rate=2.5e-3),
    "PPO": PPO(num_envs=1, rollout_length=256, learning_rate=1e-3),
}
"""One environment each, so that all that an agent learns from is seen, and step sizes
for that: of 16 seeds the median length of episodes at 40,000 steps is 250, 180 and 450.
REINFORCE learns once an episode, as published, and the others every so many steps."""
NUM_OTHERS = 16
"""Seeds that learn beside the one that is shown."""
BAND_BINS = 64
"""Of the quartiles over the other seeds: wide ones, in which all have some episodes."""
PUSH = 0.4
"""Impulse of a person's push, N s: two steps of the agent's force of 10 N."""


class Physics(NamedTuple):
    """What can be changed while an agent learns, without starting anew."""

    gravity: float = 9.8
    """m/s²."""
    length: float = 1.0
    """Of the pole, m."""
    force: float = 10.0
    """Of the agent's push, N."""


_aside = ThreadPoolExecutor(max_workers=2)
"""Where programs are compiled, for seconds, while the page still answers."""


class Curve:
    """Lengths of episodes over steps, in bins that become wider as there are more.

    Args:
      num_seeds: rows, each of which counts its own steps.
      width: of a bin at first, in steps.
    """

    def __init__(self, num_seeds: int, width: int):
        self.width = width
        self.steps = np.zeros(num_seeds, np.int64)
        self._counts = np.zeros((num_seeds, BINS), np.int64)
        self._sums = np.zeros((num_seeds, BINS), np.int64)

    def make_room(self, num_steps: int) -> None:
        """Makes the bins wide enough for so many more steps of every row."""
        while (self.steps.max() + num_steps) // self.width >= BINS:
            self.width *= 2
            self._counts, self._sums = map(_halved, (self._counts, self._sums))

    def offsets(self) -> np.ndarray:
        """How far into its bin each row is, in steps, [num_seeds] int32."""
        return (self.steps % self.width).astype(np.int32)

    def add(self, counts: Any, sums: Any, steps: Any) -> None:
        """Adds what was counted from the present bins on, rows of [BINS]."""
        for row, first in enumerate(self.steps // self.width):
            room = BINS - first
            self._counts[row, first:] += np.asarray(counts)[row, :room]
            self._sums[row, first:] += np.asarray(sums)[row, :room]
        self.steps += np.asarray(steps)

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """The bins' ends, [BINS], and mean lengths, [num_seeds, BINS], NaN if none."""
        ends = (np.arange(BINS) + 1) * self.width
        means = self._sums / np.maximum(self._counts, 1)
        return ends, np.where(self._counts > 0, means, np.nan)

    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """The quartiles of the rows' mean lengths, up to where all have got.

        A row in which no episode ended in a bin counts with what it had before.

        Returns:
          The ends of the bins, [K], and first quartile, median and third, [3, K].
        """
        each = BINS // BAND_BINS
        sums, counts = (
            bins.reshape(len(bins), -1, each).sum(-1)
            for bins in (self._sums, self._counts)
        )
        means = sums / np.maximum(counts, 1)
        ends = (np.arange(BAND_BINS) + 1) * self.width * each
        latest = np.maximum.accumulate(
            np.where(counts > 0, np.arange(BAND_BINS), -1), axis=1
        )
        filled = np.take_along_axis(means, np.maximum(latest, 0), axis=1)
        shown = (latest >= 0).all(0) & (ends <= self.steps.min())
        return ends[shown], np.quantile(filled[:, shown], [0.25, 0.5, 0.75], axis=0)


def _halved(bins: np.ndarray) -> np.ndarray:
    """Pairs of bins added up, and as many empty ones after them."""
    pairs = bins.reshape(len(bins), -1, 2).sum(-1)
    return np.concatenate([pairs, np.zeros_like(pairs)], axis=1)


class Learner:
    """An agent that learns to balance a pole, and other seeds of it beside it.

    Args:
      method: a name in `METHODS`.
      seed: of the key, which draws everything.
      physics: to start with; None: `Physics()`.
    """

    def __init__(self, method: str, seed: int = 0, physics: Physics | None = None):
        self.agent = METHODS[method]
        self.change(Physics() if physics is None else physics)
        self._key = jax.random.key(seed)
        self.training = stepwise.start(self.agent, self.env, self._key)
        self.curve = Curve(1, 8)
        self.others: TrainState | None = None
        self._starting: Future[TrainState] | None = None
        self._compiling: Future[Any] | None = None
        self.others_curve = Curve(NUM_OTHERS, 64)
        self.num_episodes = self.num_updates = self.longest = self.last = 0
        self.fallen: np.ndarray | None = None
        self.action: int | None = None

    def change(self, physics: Physics) -> None:
        """Applies other physics from the next step on."""
        self.physics = physics
        self.env = TimeLimit(
            CartPole(
                gravity=physics.gravity,
                half_length=physics.length / 2,
                force=physics.force,
            ),
            LIMIT,
        )

    def advance(self, num_steps: int, *, until_end: bool = False) -> int:
        """Takes so many steps, and learns whenever a rollout is full.

        Args:
          num_steps: 0 or more.
          until_end: whether to stop where an episode ends.

        Returns:
          The number of steps that were taken.
        """
        self.curve.make_room(num_steps)
        self.training, tally = stepwise.advance(
            self.agent,
            self.env,
            self.training,
            num_steps,
            until_end,
            self.curve.width,
            self.curve.offsets()[0],
        )
        tally = jax.device_get(tally)
        self.curve.add(tally.counts[None], tally.sums[None], tally.steps)
        self.num_updates += int(tally.updates)
        if tally.steps:
            self.action = int(tally.action)
        if ended := int(tally.counts.sum()):
            self.num_episodes += ended
            self.longest = max(self.longest, int(tally.longest))
            self.last, self.fallen = int(tally.last), tally.fallen
        return int(tally.steps)

    def is_ready(self) -> bool:
        """Whether `advance` and `push` go on without a wait for what is compiled.

        The first call has them compiled, in a thread aside. Nobody needs to ask.
        """
        if self._compiling is None:
            self._compiling = _aside.submit(self._compile, self.env, self.training)
        return self._compiling.done()

    def _compile(self, env: TimeLimit, training: stepwise.Training) -> None:
        width, offset = self.curve.width, self.curve.offsets()[0]
        stepwise.advance(self.agent, env, training, 0, False, width, offset)
        _push(env, training, 1)

    def finish_episode(self) -> None:
        """Goes on until the running episode ends."""
        self.advance(LIMIT, until_end=True)

    def push(self, direction: int) -> None:
        """Pushes the cart to the left (−1) or to the right (1), as a person does.

        Its velocity and that of the pole change at once, as by an impulse of `PUSH` in
        the environment's own equations. The agent sees it before it acts next.
        """
        if int(self.training.time) < 0:
            self.advance(0)  # else the push would go before the first reset
        self.training = _push(self.env, self.training, direction)

    def others_are_ready(self) -> bool:
        """As `is_ready`, for `advance_others`."""
        if self._starting is None:
            self._starting = _aside.submit(self._start_others, self.env)
        return self._starting.done()

    def _start_others(self, env: TimeLimit) -> TrainState:
        keys = jax.random.split(jax.random.fold_in(self._key, 1), NUM_OTHERS)
        states = stepwise.start_many(self.agent, env, keys)
        curve = self.others_curve
        no_steps = np.zeros(NUM_OTHERS, np.int32)
        return stepwise.advance_many(
            self.agent, env, states, no_steps, curve.width, no_steps
        )[0]

    def advance_others(self, most_steps: int) -> int:
        """Lets the other seeds catch up with the last update of the one shown.

        They take whole updates of `rljax.train_step`, under the physics of now.

        Args:
          most_steps: of each of them; an update that has begun is finished.

        Returns:
          How many steps the one that was furthest behind took; 0: none was.
        """
        if self.others is None:
            self.others_are_ready()
            assert self._starting is not None
            self.others = self._starting.result()
        curve, length = self.others_curve, self.agent.rollout_length
        behind = self.num_steps - self._steps_of_rollout() - curve.steps
        goals = np.minimum(behind, most_steps)
        if goals.max() <= 0:
            return 0
        curve.make_room(int(goals.max()) + length)
        self.others, *tally = stepwise.advance_many(
            self.agent,
            self.env,
            self.others,
            goals.astype(np.int32),
            curve.width,
            curve.offsets(),
        )
        tally = jax.device_get(tally)
        curve.add(*tally)
        return int(tally[2].max())

    def _steps_of_rollout(self) -> int:
        """Steps of the running rollout, from which nobody has learned yet."""
        return max(int(self.training.time), 0)

    @property
    def num_steps(self) -> int:
        """Steps so far."""
        return int(self.curve.steps[0])

    @property
    def state(self) -> np.ndarray:
        """Position, velocity, angle and angular velocity of the pole seen, [4]."""
        env_state = self.training.train_state.rollout_state.env_state.env_state
        return np.stack(jax.device_get(env_state))[:, 0]

    @property
    def steps_in_episode(self) -> int:
        """Steps of the running episode."""
        return int(self.training.train_state.rollout_state.episode_length[0])


@jax.jit
def _push(env, training, direction):
    cart_pole, state = env.env, training.train_state
    rollout_state = state.rollout_state
    limited = rollout_state.env_state
    before = jax.tree.map(lambda x: x[0], limited.env_state)
    # What a step with the person's force changes beyond a step without any force.
    with_push, without = (
        dataclasses.replace(cart_pole, force=force).step(
            before, jnp.int32(1), state.key
        )[0]
        for force in (direction * PUSH / cart_pole.time_step, 0.0)
    )
    after = before._replace(
        x_dot=before.x_dot + (with_push.x_dot - without.x_dot),
        theta_dot=before.theta_dot + (with_push.theta_dot - without.theta_dot),
    )
    rollout_state = rollout_state._replace(
        env_state=limited._replace(env_state=jax.tree.map(lambda x: x[None], after)),
        obs=jnp.stack(after)[None],  # as `CartPole` says
    )
    return training._replace(train_state=state._replace(rollout_state=rollout_state))
