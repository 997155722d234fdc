"""A taxi that fetches a passenger, with the states and rewards of Gymnasium's Taxi."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.envs import pictures
from rljax.mdp import from_outcomes
from rljax.types import MDP, Env, TimeStep

_SIZE, _NUM_STATES = 5, 500
_SOUTH, _NORTH, _EAST, _WEST, _PICK_UP, _DROP_OFF = range(6)
_STANDS = (0, 4, 20, 23)
"""The cells of R, G, Y and B."""
_INSIDE = len(_STANDS)
"""Where the passenger is who is in the taxi."""
_WALLS = (1, 6, 15, 20, 17, 22)
"""The cells that have a wall to the east."""
_PLAIN, _DELIVERED, _ILLEGAL = range(3)
"""What a step is paid for."""


@struct.dataclass
class Taxi(Env):
    """Drive to a passenger, pick them up, and drop them off where they want to go.

        R .|. . G      Bars are walls. A move into one, or off the edge, leaves the
        . .|. . .      taxi where it is. The actions: 0 drives to the south (down), 1
        . . . . .      to the north, 2 to the east, 3 to the west, 4 picks the
        .|. .|. .      passenger up, 5 drops them off.
        Y|. .|B .

    The passenger waits at one of the four stands, whose numbers are R 0, G 1, Y 2 and
    B 3, or is in the taxi, 4; the destination is another stand. State and observation
    are one number, [] int32 below 500,

        ((row · 5 + column) · 5 + passenger) · 4 + destination

    At first, all 300 states are equally probable whose passenger is at a stand other
    than the destination. A passenger in the taxi may be dropped off at any stand; the
    episode terminates when that is the destination. There is no time limit: wrap the
    environment in `TimeLimit`, or use `rljax.make("Taxi-v3")`, which truncates episodes
    at 200 steps.

    With `slip` = p, a move that no wall blocks goes as chosen with probability 1 − p,
    and to each of the two sides with p/2, unless a wall or the edge is there: then the
    taxi stays where it is. Gymnasium, from 1.3 on, calls that rain, with p = 0.2.

    Raises:
      TypeError, ValueError: a reward is not finite; slip is not in [0, 1].

    Source: Dietterich (2000), "Hierarchical Reinforcement Learning with the MAXQ Value
    Function Decomposition", §1; Gymnasium's Taxi.
    """

    step_reward: float = -1.0
    """Reward of every step but those below."""
    delivery_reward: float = 20.0
    """Reward of dropping the passenger off at the destination."""
    illegal_reward: float = -10.0
    """Reward of picking up where no passenger waits, and of dropping off where there is
    no stand or from an empty taxi."""
    slip: float | None = None
    """Probability of moving to a side; None: it is 0, and steps draw no randomness."""

    def __post_init__(self):
        checks.reals(self, "step_reward", "delivery_reward", "illegal_reward")
        checks.reals(self, "slip", minimum=0.0, maximum=1.0, optional=True)

    @property
    def observation_space(self) -> spaces.Discrete:
        """The states."""
        return spaces.Discrete(_NUM_STATES)

    @property
    def action_space(self) -> spaces.Discrete:
        """0 south, 1 north, 2 east, 3 west, 4 picks up, 5 drops off."""
        return spaces.Discrete(6)

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws the taxi's cell, where the passenger is, and another destination."""
        checks.scalars(self)
        drawn = random.below(key, 300)
        cell, passenger, other = drawn // 12, drawn // 3 % 4, drawn % 3
        destination = other + (other >= passenger).astype(jnp.int32)
        state = (cell * 5 + passenger) * 4 + destination
        return state, state

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """Draws a uniform number for each step, or nothing without slip."""
        return () if self.slip is None else random.uniform(key, shape)

    def advance(
        self, state: jax.Array, action: jax.Array, noise: Any
    ) -> tuple[jax.Array, TimeStep]:
        """Moves the taxi or its passenger; the noise decides whether it slips."""
        action = spaces.check_element(self.action_space, action, "Taxi's action")
        table = jnp.asarray(_table())
        entry = table[state, action]
        if self.slip is not None:
            moves = (action < _PICK_UP) & (entry >> 2 != state)
            first = jnp.where(action < _EAST, _EAST, _SOUTH)
            side = first + (noise < self.slip / 2).astype(jnp.int32)
            entry = jnp.where(moves & (noise < self.slip), table[state, side], entry)
        next_state, kind = entry >> 2, entry & 3
        terminated = kind == _DELIVERED
        return next_state, TimeStep(
            obs=next_state,
            reward=self._reward(kind),
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def to_mdp(self, *, sparse: bool = False) -> MDP:
        """The exact model.

        The states whose passenger is at the destination are terminal. All but four of
        them can't be reached.

        Args:
          sparse: whether the transitions are a list of one outcome, with slip of three,
            instead of [S, A, S].
        """
        checks.scalars(self)
        states, table = np.arange(_NUM_STATES), _table()
        terminal = states // 4 % 5 == states % 4
        next_states = (table >> 2)[..., None]
        probabilities = 1.0
        if self.slip is not None:
            sides = table[:, [[2, 3], [2, 3], [0, 1], [0, 1], [4, 4], [5, 5]]] >> 2
            blocked = next_states == states[:, None, None]
            sides = np.where(blocked, next_states, sides)
            next_states = np.concatenate([next_states, sides], axis=-1)
            slip = jnp.asarray(self.slip, float)
            probabilities = jnp.stack([1 - slip, slip / 2, slip / 2])
        starts = ~terminal & (states // 4 % 5 != _INSIDE)
        initial, rewards = starts / starts.sum(), self._reward(table & 3)
        return from_outcomes(
            next_states, probabilities, rewards, terminal, initial, sparse=sparse
        )

    def render(self, state: jax.Array, *, size: int = 400) -> np.ndarray:
        """The town, [size, size, 3] uint8.

        The taxi is blue, and its window dark if the passenger is inside. The stands are
        pale with their letter, the destination is gold with a star. Bars are walls.

        Raises:
          TypeError, ValueError: `state` is traced, batched or no number of a state, or
            `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        places, destination = divmod(pictures.index("state", state, _NUM_STATES), 4)
        cell, passenger = divmod(places, 5)
        return pictures.taxi(
            cell,
            None if passenger == _INSIDE else passenger,
            destination,
            stands=_STANDS,
            walls=_WALLS,
            size=size,
        )

    def _reward(self, kind: Any) -> jax.Array:
        step, delivery, illegal = (
            jnp.asarray(reward, float)
            for reward in (self.step_reward, self.delivery_reward, self.illegal_reward)
        )
        return jnp.where(
            kind == _DELIVERED, delivery, jnp.where(kind == _ILLEGAL, illegal, step)
        )


@functools.cache
def _table() -> np.ndarray:
    """[500, 6] int32 of steps without slip: 4 · next state + what it is paid for."""
    table = np.zeros((_NUM_STATES, 6), np.int32)
    for state in range(_NUM_STATES):
        places, destination = divmod(state, 4)
        cell, passenger = divmod(places, 5)
        for action in range(6):
            to, who, kind = _moved(cell, action), passenger, _PLAIN
            if action == _PICK_UP:
                waits = passenger != _INSIDE and _STANDS[passenger] == cell
                who, kind = (_INSIDE, _PLAIN) if waits else (passenger, _ILLEGAL)
            elif action == _DROP_OFF:
                legal = passenger == _INSIDE and cell in _STANDS
                who = _STANDS.index(cell) if legal else passenger
                kind = _PLAIN if legal else _ILLEGAL
                kind = _DELIVERED if legal and who == destination else kind
            table[state, action] = 4 * ((to * 5 + who) * 4 + destination) + kind
    return table


def _moved(cell: int, action: int) -> int:
    """The cell after a move."""
    row, column = divmod(cell, _SIZE)
    if action == _SOUTH:
        row = min(row + 1, _SIZE - 1)
    elif action == _NORTH:
        row = max(row - 1, 0)
    elif action == _EAST and cell not in _WALLS:
        column = min(column + 1, _SIZE - 1)
    elif action == _WEST and cell - 1 not in _WALLS:
        column = max(column - 1, 0)
    return row * _SIZE + column
