"""Grid worlds of any map, with an exact model from the same transition function."""

import functools
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple, Self, overload

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.envs import pictures
from rljax.envs.gridmaps import (
    ARROWS,
    CLIFF,
    FREE,
    GOAL,
    GRID_5X5,
    MOVES,
    PIT,
    START,
    WALL,
    analyse,
    check_layout,
    dead_ends,
)
from rljax.envs.wrappers import TimeLimit
from rljax.mdp import from_outcomes
from rljax.types import MDP, Env, TimeStep


class Outcomes(NamedTuple):
    """The K possible outcomes of a step, with their probabilities."""

    next_cells: jax.Array
    """[K] int32."""
    rewards: jax.Array
    """[K] floating."""
    terminated: jax.Array
    """[K] bool."""
    probabilities: jax.Array
    """[K] floating."""


class _Rules(NamedTuple):
    """What a step goes by. Maps of one shape and with the same kinds share programs."""

    moves: Any
    """[S, 4] int32: the next cell in the upper bits, its kind in the lowest eight."""
    slip: Any
    """[] floating, or None."""
    step_reward: Any
    """[] floating."""
    rewards: dict[int, Any]
    """[] floating, by the kinds of cells that have one of their own."""


def _directions(slip: Any, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The directions in which a move may go, [K] int32, with probabilities [K]."""
    chosen = jnp.expand_dims(action, 0)
    if slip is None:
        return chosen, jnp.ones(1)
    sides = jnp.where(action < 2, jnp.array([2, 3]), jnp.array([0, 1]))
    slip = jnp.asarray(slip, float)
    probabilities = jnp.stack([1 - slip, slip / 2, slip / 2])
    return jnp.concatenate([chosen, sides.astype(jnp.int32)]), probabilities


def _enter(
    rules: _Rules, cell: jax.Array, direction: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(next cell, reward, terminated) of moves; `direction` may have any shape."""
    # One look-up in a small table replaces arithmetic on rows, columns and kinds.
    moves = jnp.asarray(rules.moves)[cell, direction]
    kinds, next_cells = moves & 0xFF, moves >> 8
    rewards = jnp.broadcast_to(rules.step_reward, kinds.shape)
    for kind, reward in rules.rewards.items():
        rewards = jnp.where(kinds == kind, reward, rewards)
    terminated = (kinds == ord(GOAL)) | (kinds == ord(PIT))
    return next_cells, rewards, terminated


def _outcomes(rules: _Rules, cell: jax.Array, action: jax.Array) -> Outcomes:
    directions, probabilities = _directions(rules.slip, action)
    return Outcomes(*_enter(rules, cell, directions), probabilities)


@functools.partial(jax.jit, static_argnames="sparse", inline=True)
def _model(rules: _Rules, terminal: jax.Array, initial: jax.Array, sparse: bool) -> MDP:
    """The model of the map that the rules are of."""
    num_states, num_actions = rules.moves.shape
    cells = jnp.arange(num_states, dtype=jnp.int32)
    actions = jnp.arange(num_actions, dtype=jnp.int32)
    over_actions = jax.vmap(_outcomes, (None, None, 0))
    outcomes = jax.vmap(over_actions, (None, 0, None))(rules, cells, actions)
    next_states, probabilities = outcomes.next_cells, outcomes.probabilities
    expected = jnp.sum(probabilities * outcomes.rewards, -1)
    return from_outcomes(
        next_states, probabilities, expected, terminal, initial, sparse=sparse
    )


@struct.dataclass
class GridWorld(Env):
    """Walk up (0), down (1), left (2) or right (3) to a goal.

    A move into a wall or off the grid leaves the agent where it is. With `slip` = p the
    move goes as chosen with probability 1 − p, and to each of the two sides with p/2.
    The reward is that of the cell which the step enters or stays in. The episode
    terminates at a goal and in a pit; a cliff sends the agent back to the start. There
    is no time limit; `from_text` or `TimeLimit` can add one. State and observation are
    the cell's index, row · columns + column, an int32 scalar.

    A map's cells:

        .  free (also F)        G  goal, terminal      P  pit, terminal (also H)
        #  wall                 A  start (also S)      C  cliff, back to the start

    If there are several starts, one is drawn uniformly. The default map is the 5×5 one.

    Raises:
      TypeError, ValueError: the map has no start or goal, ragged rows or unknown
        characters; a reward is not finite; slip is not in [0, 1].
      UserWarning: a goal cannot be reached, or a start has no way to a goal.

    Source: Sutton and Barto (2018), examples 3.5 and 6.6.
    """

    layout: tuple[str, ...] = struct.static(default=GRID_5X5)
    """Rows of the map."""
    goal_reward: float = 1.0
    """Reward of the step that enters a goal."""
    step_reward: float = -0.01
    """Reward of every step that enters no goal, pit or cliff."""
    pit_reward: float = -1.0
    """Reward of the step that enters a pit."""
    cliff_reward: float = -100.0
    """Reward of the step onto a cliff."""
    slip: float | None = None
    """Probability of moving to a side; None: it is 0, and steps draw no randomness."""

    def __post_init__(self):
        object.__setattr__(self, "layout", check_layout(self.layout))
        checks.reals(self, "goal_reward", "step_reward", "pit_reward", "cliff_reward")
        checks.reals(self, "slip", minimum=0.0, maximum=1.0, optional=True)
        for problem in dead_ends(self.layout):
            warnings.warn(problem, stacklevel=3)

    @overload
    @classmethod
    def from_text(
        cls, text: str, *, max_steps: None = None, **settings: Any
    ) -> Self: ...
    @overload
    @classmethod
    def from_text(cls, text: str, *, max_steps: int, **settings: Any) -> TimeLimit: ...
    @classmethod
    def from_text(
        cls, text: str, *, max_steps: int | None = None, **settings: Any
    ) -> Any:
        """A grid from a map that is written as text, one row per line.

        Args:
          text: the map; blank lines around it and indentation are ignored.
          max_steps: truncates episodes at this step, by returning a `TimeLimit` whose
            `env` is the grid; None: returns the grid, without a limit.
          **settings: goal_reward, step_reward, pit_reward, cliff_reward, slip.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a string with one row a line, got {text!r}.")
        rows = tuple(line.strip() for line in text.strip().splitlines())
        grid = cls(rows, **settings)
        return grid if max_steps is None else TimeLimit(grid, max_steps)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        return len(self.layout), len(self.layout[0])

    @property
    def observation_space(self) -> spaces.Discrete:
        """The indices of all cells, including walls."""
        rows, columns = self.shape
        return spaces.Discrete(rows * columns)

    @property
    def action_space(self) -> spaces.Discrete:
        """0 up, 1 down, 2 left, 3 right."""
        return spaces.Discrete(len(MOVES))

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Puts the agent on a start, drawn uniformly if there are several."""
        checks.scalars(self)
        starts = analyse(self.layout).starts
        cell = jnp.int32(starts[0])
        if len(starts) > 1:
            cell = jax.random.choice(key, jnp.asarray(starts, jnp.int32))
        return cell, cell

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """Draws a uniform number for each step, or nothing without slip."""
        return () if self.slip is None else random.uniform(key, shape)

    def advance(
        self, state: jax.Array, action: jax.Array, noise: Any
    ) -> tuple[jax.Array, TimeStep]:
        """Moves the agent; the noise decides whether it slips."""
        action = spaces.check_element(self.action_space, action, "GridWorld's action")
        directions, probabilities = _directions(self.slip, action)
        direction = directions[0]
        if self.slip is not None:
            # Slips come first, as words are finest near 0 and slips may be rare.
            bounds = jnp.cumsum(probabilities[::-1])[:-1]
            direction = directions[len(bounds) - jnp.sum(noise >= bounds)]
        cell, reward, terminated = _enter(self._rules(), state, direction)
        return cell, TimeStep(
            obs=cell,
            reward=reward,
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def outcomes(self, cell: jax.Array, action: jax.Array) -> Outcomes:
        """All outcomes of a step: K = 1 without slip, 3 with it.

        Args:
          cell: [] int32.
          action: [] int32.
        """
        return _outcomes(self._rules(), cell, action)

    def _rules(self) -> "_Rules":
        """What a step goes by; rewards of kinds that the map lacks are left out."""
        kinds = {GOAL: self.goal_reward, PIT: self.pit_reward, CLIFF: self.cliff_reward}
        rewards = {
            ord(kind): jnp.asarray(reward, float)
            for kind, reward in kinds.items()
            if any(kind in row for row in self.layout)
        }
        slip = None if self.slip is None else jnp.asarray(self.slip, float)
        step_reward = jnp.asarray(self.step_reward, float)
        return _Rules(analyse(self.layout).moves, slip, step_reward, rewards)

    def to_mdp(self, *, sparse: bool = False) -> MDP:
        """The exact model, from `outcomes`, which moves the agent as `step` does.

        Goals and pits are terminal and absorbing, so their value is 0. Walls are made
        terminal too, as the agent is never in one.

        Args:
          sparse: whether the transitions are a list of outcomes instead of [S, A, S],
            for grids of many cells.

        Raises:
          ValueError: the dense model would have more than 2²⁸ entries.
        """
        checks.scalars(self)
        grid = analyse(self.layout)
        terminal = np.isin(grid.kinds, [ord(c) for c in (GOAL, PIT, WALL)])
        starts = np.isin(np.arange(self.observation_space.n), grid.starts)
        return _model(self._rules(), terminal, starts / starts.sum(), sparse)

    def render_values(self, values: Any) -> str:
        """V with two decimals, one row per line; letters for cells without actions.

        Args:
          values: [S] floating, concrete: this does not work under jit.
        """
        numbers = self._where_one_acts(f"{float(v):.2f}" for v in np.asarray(values))
        width = max(map(len, numbers))
        return self._lines([number.rjust(width) for number in numbers], " ")

    def render_policy(self, policy: Any) -> str:
        """An arrow per cell, one row per line; letters for cells without actions.

        Args:
          policy: [S] integer actions, concrete: this does not work under jit.

        Raises:
          ValueError: `policy` is not an action in [0, 4) for each cell.
        """
        arrows = (ARROWS[action] for action in check_policy(self, policy))
        return self._lines(self._where_one_acts(arrows), " ")

    def render_text(self, state: jax.Array) -> str:
        """The map with the agent (A) in it, one row per line; not under jit.

        Raises:
          TypeError, ValueError: `state` is not the index of one of the cells.
        """
        cells = list("".join(self.layout).replace(START, FREE))
        cells[self._cell(state)] = START
        return self._lines(cells, "")

    def render(self, state: jax.Array, *, size: int = 400) -> np.ndarray:
        """The map with the agent in it, a blue disc, [H, W, 3] uint8.

        Goals are gold with a star, walls dark, pits and cliffs dark red with their
        letter, the start is pale blue with a frame.

        Args:
          state: [] int, concrete: this does not work under jit.
          size: pixels of the longer side. Cells have whole pixels, so it is shorter by
            what is left over, or longer in a map of more cells than pixels.

        Raises:
          TypeError, ValueError: `state` is not the index of one of the cells, or
            `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        return pictures.grid(self.layout, self._cell(state), size=size)

    def _cell(self, state: Any) -> int:
        return pictures.index("state", state, self.observation_space.n)

    def _where_one_acts(self, texts: Iterable[str]) -> list[str]:
        """The texts of the cells, with the map's letter where no action is taken."""
        nobody = WALL + GOAL + PIT + CLIFF
        cells = "".join(self.layout)
        return [
            cell if cell in nobody else text
            for cell, text in zip(cells, texts, strict=True)
        ]

    def _lines(self, cells: list[str], separator: str) -> str:
        columns = self.shape[1]
        return "\n".join(
            separator.join(cells[i : i + columns])
            for i in range(0, len(cells), columns)
        )


def check_policy(grid: GridWorld, policy: Any) -> list[int]:
    """The actions of a policy, one for each cell.

    Raises:
      ValueError: `policy` is not an action in [0, 4) for each cell.
    """
    actions, num_cells = np.asarray(policy), grid.observation_space.n
    inside = (actions >= 0) & (actions < len(ARROWS))
    if actions.dtype.kind not in "iu" or actions.shape != (num_cells,):
        raise ValueError(
            f"policy must be [{num_cells}] integers, an action for each cell, got "
            f"{actions.dtype} {list(actions.shape)}."
        )
    if not inside.all():
        raise ValueError(
            f"policy must hold actions in [0, {len(ARROWS)}), got "
            f"{actions[~inside][0]} in cell {np.flatnonzero(~inside)[0]}."
        )
    return actions.tolist()
