"""Learning on a grid, a step or thousands at a time, beside the exact answer.

No page and no clock is in here: whoever draws asks a `Walk` to go on by so many steps,
and reads what it holds. Every number comes from rljax's public functions.
"""

import dataclasses
import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax.envs.gridworld import GridWorld
from rljax.envs.registry import make
from rljax.mdp import MDP
from rljax.tabular import (
    DoubleQLearning,
    ExpectedSarsa,
    QLearning,
    Sarsa,
    exploration,
    planning,
)
from rljax.training import init_train, train_for, train_step

AGENTS: dict[str, Any] = {
    "Q-learning": QLearning,
    "Sarsa": Sarsa,
    "expected Sarsa": ExpectedSarsa,
    "double Q-learning": DoubleQLearning,
}
NUM_OTHERS = 100
"""Seeds that learn beside the one that is shown."""
MOST_CELLS_OF_MANY = 200
"""Cells of a map up to which the other seeds learn along: all are judged exactly."""


class Rule(NamedTuple):
    """An exploration rule with one number to be set."""

    build: Any
    symbol: str
    start: float
    low: float
    high: float


RULES = {
    "ε-greedy": Rule(exploration.EpsilonGreedy, "ε", 0.3, 0.0, 1.0),
    "softmax": Rule(exploration.Softmax, "τ", 0.1, 0.01, 1.0),
    "UCB": Rule(exploration.UCB, "c", 0.5, 0.0, 2.0),
    "Thompson": Rule(exploration.ThompsonGaussian, "σ", 0.5, 0.01, 2.0),
}


class Exact(NamedTuple):
    """What is known of a map without learning."""

    values: np.ndarray
    """[S] V*."""
    policy: np.ndarray
    """[S] π*."""
    best: float
    """J(π*)."""
    shortest: int | None
    """Steps of the shortest way from the first start to a goal; None: there is none."""


class Settings(NamedTuple):
    """What can be changed while an agent learns, without starting anew."""

    explore: float = 0.3
    """ε, τ, c or σ, as the rule says."""
    step_size: float = 0.1
    discount: float = 0.99
    slip: float = 0.0


class Walk:
    """An agent that learns on a grid, other seeds beside it, and the exact answer.

    Args:
      grid: the map and its rewards; its slip is that of the settings.
      agent: a name in `AGENTS`.
      rule: a name in `RULES`.
      seed: of the key, which draws everything.
      settings: to start with; None: `Settings()`.
      others: whether `NUM_OTHERS` other seeds learn along, if the map is small enough.
    """

    def __init__(
        self,
        grid: GridWorld,
        agent: str = "Q-learning",
        rule: str = "ε-greedy",
        seed: int = 0,
        settings: Settings | None = None,
        *,
        others: bool = True,
    ):
        self._grid, self._agent, self._rule = grid, AGENTS[agent], RULES[rule]
        self.change(Settings() if settings is None else settings)
        self.num_steps = self._num_ended = 0
        self._ended_return = 0.0
        self._unread: list[tuple[jax.Array, jax.Array]] = []
        key = jax.random.key(seed)
        self.state, self._seen = _start(self.agent, self.env, key)
        small = grid.observation_space.n <= MOST_CELLS_OF_MANY
        self.others = None
        if others and small:
            keys = jax.random.split(jax.random.fold_in(key, 1), NUM_OTHERS)
            self.others = _start_all(self.agent, self.env, keys)

    def change(self, settings: Settings) -> None:
        """Applies other settings from the next step on."""
        self.settings = settings
        self.env = _changed(self._grid, slip=settings.slip)
        self._models: dict[bool, MDP] = {}
        self.agent = self._agent(
            exploration=self._rule.build(settings.explore),
            step_size=settings.step_size,
            discount=settings.discount,
            num_envs=1,
            rollout_length=1,  # so that an update is one step
        )

    def advance(self, num_steps: int) -> None:
        """Takes so many steps, and learns from each.

        JAX does so in the background, until somebody looks at what came of it.
        """
        self.state, ended, self._seen = _advance(
            self.agent, self.env, self.state, num_steps
        )
        if self.others is not None:
            self.others = _advance_all(self.agent, self.env, self.others, num_steps)
        self.num_steps += num_steps
        # To look at them now would be to wait until the steps are taken.
        self._unread.append(ended)

    def finish_episode(self, most: int = 100_000) -> None:
        """Goes on until the running episode ends, or for `most` steps."""
        self.advance(int(_steps_to_end(self.agent, self.env, self.state, most)))

    def settle(self) -> None:
        """Waits until all steps are taken, those of the other seeds as well."""
        jax.block_until_ready((self._seen, self.others))

    @property
    def num_episodes(self) -> int:
        """Episodes that have ended."""
        self._read()
        return self._num_ended

    def _read(self):
        for number, total in self._unread:
            self._num_ended += int(number)
            self._ended_return += float(total)
        self._unread = []

    @property
    def cell(self) -> int:
        """Where the agent stands."""
        return int(self._seen.cell)

    @property
    def steps_in_episode(self) -> int:
        """Steps of the running episode."""
        return int(self._seen.steps_in_episode)

    @property
    def total_reward(self) -> float:
        """All rewards so far."""
        self._read()
        return self._ended_return + float(self._seen.running_return)

    @property
    def q_values(self) -> np.ndarray:
        """Q, [S, A], by which actions are chosen."""
        return np.asarray(self._seen.q_values)

    def greedy_path(self) -> tuple[list[int], bool]:
        """The cells that the greedy policy walks through without slips.

        They end at a goal, in a pit, or where it comes to a cell for the second time.

        Returns:
          The cells from the first start on, and whether the last one is a goal.
        """
        return follow(self._grid, np.asarray(self._seen.policy))

    def _model(self, sparse: bool) -> MDP:
        if sparse not in self._models:
            self._models[sparse] = self.env.to_mdp(sparse=sparse)
        return self._models[sparse]

    def exact(self) -> Exact:
        """V*, π* and J(π*) at the present settings."""
        mdp = self._model(sparse=True)
        plan = planning.value_iteration(mdp, self.settings.discount, 1e-6)
        best = planning.initial_value(mdp, plan.values)
        # The way with the fewest steps: every step costs 1, and there are no slips.
        costs = _changed(
            self._grid,
            slip=0.0,  # not None, so that it is the same program
            goal_reward=-1.0,
            step_reward=-1.0,
            pit_reward=-1e6,
            cliff_reward=-1e6,
        )
        # A discount just below 1 prefers fewer steps as well; 1 is another program.
        steps = planning.value_iteration(costs.to_mdp(sparse=True), 0.999, 1e-3).policy
        path, at_goal = follow(self._grid, np.asarray(steps))
        return Exact(
            np.asarray(plan.values),
            np.asarray(plan.policy),
            float(best),
            len(path) - 1 if at_goal else None,
        )

    def expected_returns(self) -> tuple[float, np.ndarray | None]:
        """J of the greedy policies: of the agent shown, and of the others or None."""
        own = self.state.agent_state
        if self.others is None:
            return float(_expected(self.agent, self._model(sparse=True), own)), None
        both = (own, self.others.agent_state)
        mdp = self._model(sparse=False)
        found = np.asarray(_expected_all(self.agent, mdp, *both))
        return float(found[0]), found[1:]


def _changed(grid: GridWorld, **numbers: Any) -> GridWorld:
    """The grid with other numbers; what its map lacks has been said before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dataclasses.replace(grid, **numbers)


def follow(grid: GridWorld, policy: np.ndarray) -> tuple[list[int], bool]:
    """The cells on a policy's way from the first start, and whether it is to a goal."""
    cells = "".join(grid.layout)
    path = [cells.index("A")]
    next_cells, ends = _moves(grid)
    while True:
        cell = int(next_cells[path[-1], policy[path[-1]]])
        if cell in path:
            return path, False
        path.append(cell)
        if ends[cell]:
            return path, cells[cell] == "G"


@functools.lru_cache(maxsize=8)
def _moves(grid: GridWorld) -> tuple[np.ndarray, np.ndarray]:
    """Where each move leads without slips, [S, A], and which cells end an episode."""
    mdp = _changed(grid, slip=None).to_mdp(sparse=True)
    transitions: Any = mdp.transitions
    return np.asarray(transitions.next_states[..., 0]), np.asarray(mdp.terminal)


class _Seen(NamedTuple):
    """What a page shows of a state: computed together with it, in the background."""

    q_values: jax.Array
    policy: jax.Array
    cell: jax.Array
    steps_in_episode: jax.Array
    running_return: jax.Array


def _look(agent, state):
    here = jax.tree.map(lambda x: x[0], state.rollout_state)
    return _Seen(
        agent.action_values(state.agent_state),
        agent.greedy_policy(state.agent_state),
        here.env_state,
        here.episode_length,
        here.episode_return.value,
    )


@jax.jit
def _start(agent, env, key):
    state = init_train(agent, env, key)
    return state, _look(agent, state)


@jax.jit
def _advance(agent, env, state, num_steps):
    state, metrics = train_for(agent, env, state, num_steps)
    ended = (metrics.num_episodes, metrics.episode_return_sum)
    return state, ended, _look(agent, state)


@jax.jit
def _steps_to_end(agent, env, state, most):
    """How many steps the running episode takes from here on, `most` at most."""

    def step(carry):
        state, count, _ = carry
        state, metrics = train_step(agent, env, state)
        return state, count + 1, metrics.num_episodes

    zero = jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(
        lambda carry: (carry[2] == 0) & (carry[1] < most), step, (state, zero, zero)
    )[1]


@jax.jit
def _start_all(agent, env, keys):
    return jax.vmap(lambda key: init_train(agent, env, key))(keys)


@jax.jit
def _advance_all(agent, env, states, num_steps):
    return jax.vmap(lambda state: train_for(agent, env, state, num_steps)[0])(states)


@jax.jit
def _expected(agent, mdp, agent_state):
    policy = agent.greedy_policy(agent_state)
    return planning.expected_return(mdp, policy, agent.discount, method="iterative")


@jax.jit
def _expected_all(agent, mdp, own, others):
    """J of the agent shown and of the others, [1 + others], by one program."""
    policies = jnp.concatenate(
        [agent.greedy_policy(own)[None], jax.vmap(agent.greedy_policy)(others)]
    )
    return jax.vmap(
        lambda policy: planning.expected_return(mdp, policy, agent.discount)
    )(policies)


def grid_named(name: str) -> GridWorld:
    """The grid of `rljax.make`, without its time limit."""
    grid = make(name, max_steps=None)
    assert isinstance(grid, GridWorld)
    return grid


def grid_of(text: str, **rewards: float) -> tuple[GridWorld, str]:
    """A grid from its map, and a warning about it, "" if there is none.

    Raises:
      TypeError, ValueError: the map is none; the message says why.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = tuple(line.strip() for line in text.strip().splitlines())
        grid = GridWorld(rows, **rewards)
    return grid, "; ".join(str(warning.message) for warning in caught)
