"""Learning to write texts of three letters, beside the exact answer.

No page and no clock is in here: whoever draws asks a `Writer` to go on by so many
updates, and reads what it holds. All 27 texts are enumerated, so that the policy, its
reference and the optimum are known exactly. Every number comes from rljax's public
functions.
"""

import collections
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax.rlhf import (
    DPO,
    GRPO,
    PPOKL,
    RLOO,
    TokenMDP,
    networks,
    optimum,
    preferences,
    rewards,
    sequences,
)
from rljax.training import init_train, train_for

LETTERS = "abc"
HORIZON = 3
TABLE = networks.Table(len(LETTERS), HORIZON)
CRITIC = networks.Table(len(LETTERS), HORIZON, outputs=1)
REFERENCE_SCALE = 0.7
"""Standard deviation of the logits of π_ref, so that it prefers some texts."""
NUM_OTHERS = 16
"""Seeds that learn beside the one that is shown."""
NUM_PAIRS = 5000
"""Preferences that DPO learns from."""
NUM_PRICES = 100
MOST_ROWS = 400
"""Of a history."""
NEAR = 0.005
"""In nats and reward: places on the plane that look like one."""


class Algorithm(NamedTuple):
    """A learning rule, and how it is set here."""

    build: Any
    step_size: float
    """To start with; all learn in some 100 updates then."""
    options: dict[str, Any]


AGENTS = {
    "RLOO": Algorithm(RLOO, 0.05, {"num_envs": 64}),
    "GRPO": Algorithm(GRPO, 0.03, {"num_envs": 64}),
    "GRPO, KL in the loss": Algorithm(
        GRPO, 0.03, {"num_envs": 64, "kl_in": "loss", "kl_estimator": "k3"}
    ),
    "PPO-KL": Algorithm(PPOKL, 0.03, {"num_envs": 64}),
    "DPO": Algorithm(DPO, 0.03, {"batch_size": 128}),
}


class Settings(NamedTuple):
    """What can be changed while a policy learns, without starting anew."""

    kl_coef: float = 0.3
    """β, more than 0."""
    step_size: float = 0.05


class Problem(NamedTuple):
    """What there is to be written, and what is known of it without learning."""

    env: TokenMDP
    reference: jax.Array
    """[1, U, V] logits of π_ref, a table."""
    rewards: jax.Array
    """[1, 27] of all texts."""
    reference_log_probs: jax.Array
    """[1, 27] log π_ref of all texts."""
    frontier_kl: jax.Array
    """[K] KL(π*‖π_ref) of the optima from β = ∞, where π* is π_ref, to β near 0."""
    frontier_reward: jax.Array
    """[K] their E[r]."""


class Standing(NamedTuple):
    """Where things stand, exactly, at the present β."""

    probs: np.ndarray
    """[27] π of all texts."""
    optimal_probs: np.ndarray
    """[27] π*."""
    exact: optimum.SequenceObjective
    """Of the policy; each field is []."""
    best: optimum.SequenceObjective
    """Of π*; each field is []."""
    others: optimum.SequenceObjective
    """Of the other seeds' policies; each field is [NUM_OTHERS], or [0]."""


class Row(NamedTuple):
    """How things stood after some updates, at the β of then."""

    num_updates: int
    objective: float
    """J(π)."""
    optimum: float
    """J(π*)."""
    kl: float
    reward: float
    low: float
    """Of the other seeds' J, as `middle` and `high`: the quantiles 0.05, 0.5, 0.95;
    NaN if there are none."""
    middle: float
    high: float


class History:
    """What happened since the beginning, in a bounded number of rows.

    The last row is always the newest. The others are thinned out where they become too
    many, evenly over the updates. The way on the plane of KL and reward forgets its
    beginning instead, as it would cut corners if it were thinned out.
    """

    def __init__(self, most: int = MOST_ROWS):
        self.rows: list[Row] = []
        self._most, self._apart = most, 1.0
        self._way: collections.deque[np.ndarray] = collections.deque(maxlen=most)

    def add(self, row: Row) -> None:
        """Appends a row, in the place of the last one if the one before is near."""
        place = np.array([row.kl, row.reward])
        if not self._way or np.abs(place - self._way[-1]).max() >= NEAR:
            self._way.append(place)
        rows = self.rows
        if len(rows) > 1 and row.num_updates - rows[-2].num_updates < self._apart:
            rows[-1] = row
            return
        rows.append(row)
        if len(rows) > self._most:
            span = row.num_updates - rows[0].num_updates
            self._apart = max(1.0, 2 * span / self._most)
            self.rows = self._thinned()

    def columns(self) -> dict[str, np.ndarray]:
        """Each field of the rows as an array."""
        columns = zip(*self.rows, strict=True)
        return {n: np.array(c) for n, c in zip(Row._fields, columns, strict=True)}

    def way(self) -> np.ndarray:
        """[2, K] KL and reward, up to the newest row's."""
        newest = np.array([self.rows[-1].kl, self.rows[-1].reward])
        return np.array([*self._way, newest]).T

    def _thinned(self) -> list[Row]:
        kept = self.rows[:1]
        for row in self.rows[1:-1]:
            if row.num_updates - kept[-1].num_updates >= self._apart:
                kept.append(row)
        return [*kept, self.rows[-1]]


class Writer:
    """A policy that learns to write, other seeds beside it, and the exact answer.

    Args:
      agent: a name in `AGENTS`.
      seed: of the key, which draws the rewards, π_ref and everything else.
      settings: to start with; None: β of `Settings()` and the agent's own step size.
      others: whether `NUM_OTHERS` other seeds learn along, on the same problem.
    """

    def __init__(
        self,
        agent: str = "RLOO",
        seed: int = 0,
        settings: Settings | None = None,
        *,
        others: bool = False,
    ):
        key = jax.random.key(seed)
        self.problem = draw_problem(key)
        self._fresh = _agent_of(AGENTS[agent], self.problem, key)
        if settings is None:
            settings = Settings(step_size=AGENTS[agent].step_size)
        self.change(settings)
        self.num_updates = 0
        self.history = History()
        self.state = _start(self.agent, self.env, key)
        self.others = _start_others(self.agent, self.env, key) if others else None

    @property
    def env(self) -> TokenMDP:
        """The environment: its episodes are the texts."""
        return self.problem.env

    def change(self, settings: Settings) -> None:
        """Applies other settings: π* moves at once, learning from the next update."""
        self.settings = settings
        self.agent = dataclasses.replace(
            self._fresh, kl_coef=settings.kl_coef, learning_rate=settings.step_size
        )

    def advance(self, num_updates: int) -> None:
        """Learns from so many updates."""
        self.state, _ = train_for(self.agent, self.env, self.state, num_updates)
        if self.others is not None:
            self.others = _advance_all(self.agent, self.env, self.others, num_updates)
        self.num_updates += num_updates
        # JAX returns before it is done; whoever times this wants to know when it is.
        jax.block_until_ready((self.state, self.others))

    def judge(self) -> Standing:
        """How things stand at the present β; it is added to the history."""
        price = self.settings.kl_coef
        own = _log_probs(self.agent, self.state.agent_state, self.env)
        log_probs = np.asarray(own)[None]
        if self.others is not None:
            states = self.others.agent_state
            of_others = _log_probs_of_all(self.agent, states, self.env)
            log_probs = np.concatenate([log_probs, of_others])
        best, of_all = jax.device_get(_judge(self.problem, log_probs, price))
        of_best, exact, others = (_part(of_all, i) for i in (0, 1, slice(2, None)))
        quantiles = np.full(3, np.nan)
        if self.others is not None:
            quantiles = np.quantile(others.objective, [0.05, 0.5, 0.95])
        self.history.add(
            Row(
                self.num_updates,
                float(exact.objective),
                float(exact.optimum),
                float(exact.kl),
                float(exact.expected_reward),
                *map(float, quantiles),
            )
        )
        probs, best_probs = np.exp(log_probs[0, 0]), np.exp(best[0])
        return Standing(probs, best_probs, exact, of_best, others)

    @property
    def reference_objective(self) -> float:
        """J(π_ref), which is its E[r] at every β."""
        return float(np.asarray(self.problem.frontier_reward)[0])


def names() -> list[str]:
    """All texts in letters, in the order of their probabilities."""
    tokens = sequences.all_tokens(len(LETTERS), HORIZON)
    return ["".join(LETTERS[token] for token in text) for text in tokens]


@jax.jit
def draw_problem(key: jax.Array) -> Problem:
    """Independent N(0, 1) rewards of the texts, and a reference policy."""
    key_reward, key_reference = jax.random.split(jax.random.fold_in(key, 2))
    sizes = (len(LETTERS), HORIZON)
    env = TokenMDP(rewards.TableReward.random(*sizes, key_reward), *sizes)
    shape = (1, sequences.num_shorter(*sizes), len(LETTERS))
    reference = REFERENCE_SCALE * jax.random.normal(key_reference, shape)
    log_probs = sequences.sequence_log_probs(jax.nn.log_softmax(reference), HORIZON)
    reward = env.sequence_rewards()

    def of_price(kl_coef):
        best = optimum.optimal_log_probs(log_probs, reward, kl_coef)
        found = optimum.sequence_objective(best, log_probs, reward, 0.0)
        return found.kl, found.expected_reward

    prices = jnp.asarray([np.inf, *np.logspace(2, -3, NUM_PRICES)])
    return Problem(env, reference, reward, log_probs, *jax.vmap(of_price)(prices))


def _agent_of(algorithm: Algorithm, problem: Problem, key: jax.Array) -> Any:
    """The agent, with π_ref as its reference and what else it needs."""
    needs: dict[str, Any] = {"network": TABLE, "reference": problem.reference}
    if algorithm.build is PPOKL:
        critic = CRITIC.init(key, 0)  # zeros
        needs["network"] = networks.Pair(TABLE, CRITIC)
        needs["reference"] = (problem.reference, critic)
    elif algorithm.build is DPO:
        key_pairs = jax.random.fold_in(key, 3)
        known = (problem.env, problem.reference_log_probs)
        needs["preferences"] = _draw_pairs(*known, key_pairs)
    return algorithm.build(rollout_length=HORIZON, **needs, **algorithm.options)


# Jitted here, so that all visitors of a page share the programs.
_start = jax.jit(init_train)
_draw_pairs = jax.jit(
    functools.partial(preferences.sample_preferences, num_pairs=NUM_PAIRS)
)


@jax.jit
def _start_others(agent, env, key):
    keys = jax.random.split(jax.random.fold_in(key, 1), NUM_OTHERS)
    return jax.vmap(functools.partial(init_train, agent, env))(keys)


@jax.jit
def _advance_all(agent, env, states, num_updates):
    return jax.vmap(lambda state: train_for(agent, env, state, num_updates)[0])(states)


_log_probs = jax.jit(optimum.log_probs_of)


@jax.jit
def _log_probs_of_all(agent, states, env):
    return jax.vmap(lambda state: optimum.log_probs_of(agent, state, env))(states)


# Apart from the agents, so that it is compiled once for all of them.
@jax.jit
def _judge(problem, log_probs, kl_coef):
    """log π* [1, 27], and objectives [1 + N] of π* and of log π [N, 1, 27]."""
    known = (problem.reference_log_probs, problem.rewards, kl_coef)
    best = optimum.optimal_log_probs(*known)
    every = jnp.concatenate([best[None], log_probs])
    return best, jax.vmap(lambda one: optimum.sequence_objective(one, *known))(every)


def _part(of_all, which):
    return jax.tree.map(lambda x: x[which], of_all)
