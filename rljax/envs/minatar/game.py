"""What the games of MinAtar share: the board, sticky actions, random digits."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.envs import pictures
from rljax.types import Env

SIZE = 10
"""Rows and columns of the board."""
CELLS = np.arange(SIZE, dtype=np.int32)
"""The rows, or the columns, from the top and from the left."""
ALL_ACTIONS = "nlurdf"
"""The six actions of the package, in its order, by the letters that it gives them."""

_FRACTION_BITS = 28


@struct.dataclass
class Game(Env):
    """The base class of the games: sticky actions, the two spaces, and pictures.

    With probability `sticky_action_prob` a step takes the action that the last one took
    and not the one that it is given. The observation has a channel for each kind of
    thing, [10, 10, C] with row, column, channel: 1 where there is one and 0 elsewhere.
    The package says so in bools. Here they are uint8: of the same size in memory, and
    numbers, which a Box holds and networks read. There is no time limit: wrap the
    environment in `TimeLimit`, or pass max_steps to `rljax.make`.

    One thing differs from the package in all games. There, the last action outlives the
    episode and may be repeated in the first step of the next. Here, each episode begins
    with "none" as the last action, as in the package's first one.

    Raises:
      TypeError, ValueError: `sticky_action_prob` is not in [0, 1], or another field has
        the wrong type; so it is for all games.

    Source: Young and Tian (2019), MinAtar, arXiv:1903.03176; the rules are those of the
    package minatar, 1.0.15.
    """

    sticky_action_prob: float = 0.1
    """Probability that a step repeats the last action."""
    minimal_actions: bool = struct.static(default=True)
    """Whether only the actions are there that do something in this game, as in the
    package's Gymnasium names that end with v1; else all six, as in those with v0."""

    MINIMAL_ACTIONS: ClassVar[str]
    """The letters of the actions that do something in this game."""
    CHANNELS: ClassVar[dict[str, str]]
    """The names of the channels, and for each the mark of `pictures` that shows it."""
    State: ClassVar[type]
    """The type of this game's states."""

    def __post_init__(self):
        checks.reals(self, "sticky_action_prob", minimum=0.0, maximum=1.0)
        checks.bools(self, "minimal_actions")

    @property
    def observation_space(self) -> spaces.Box:
        """Zeros and ones, [10, 10, C] uint8."""
        return spaces.Box(0, 1, (SIZE, SIZE, len(self.CHANNELS)), jnp.uint8)

    @property
    def action_space(self) -> spaces.Discrete:
        """The indices of the letters in `actions`."""
        return spaces.Discrete(len(self.actions))

    @property
    def actions(self) -> str:
        """A letter for each action: none, left, up, right, down, fire."""
        return self.MINIMAL_ACTIONS if self.minimal_actions else ALL_ACTIONS

    @abc.abstractmethod
    def observe(self, state: Any) -> jax.Array:
        """What an agent sees of a state, [10, 10, C] uint8."""

    def render(self, state: Any, *, size: int = 400) -> np.ndarray:
        """The board, [size, size, 3] uint8, less what whole pixels a cell leave over.

        Raises:
          TypeError, ValueError: `state` is traced, batched or another environment's; or
            `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        checks.instance("state", state, self.State, "env.reset(key)[0]")
        pictures.number("state.last_action", state.last_action)
        board = np.asarray(_observed(self, jax.tree.map(jnp.asarray, state)))
        return pictures.board(board, tuple(self.CHANNELS.values()), size=size)

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """Whether each step repeats the last action, [*shape] bool."""
        return random.once(random.uniform(key, shape)) < self.sticky_action_prob

    def taken(self, state: Any, action: Any, sticky: jax.Array) -> jax.Array:
        """The action that a step takes, [] int32."""
        label = f"{type(self).__name__}'s action"
        action = spaces.check_element(self.action_space, action, label)
        return jnp.where(sticky, state.last_action, action)

    def chosen(self, action: jax.Array, letter: str) -> jax.Array:
        """Whether an action is that of a letter, [] bool."""
        return action == self.actions.index(letter)

    def shift(self, action: jax.Array, less: str, more: str) -> jax.Array:
        """−1 for the action of the letter `less`, 1 for `more`, else 0; [] int32."""
        down, up = self.chosen(action, less), self.chosen(action, more)
        return up.astype(jnp.int32) - down.astype(jnp.int32)


@jax.jit  # one program for a whole movie
def _observed(env: Game, state: Any) -> jax.Array:
    return env.observe(state)


def by_column(channels: jax.Array) -> jax.Array:
    """The board from numbers that have a bit for each row.

    Args:
      channels: [10, C] int32, by column; bit i stands for row i.

    Returns:
      [10, 10, C] uint8.
    """
    # Columns and channels are one axis here, long enough for vector registers.
    words = channels.astype(jnp.uint16).reshape(-1)
    bits = (1 << CELLS).astype(np.uint16)
    cells = (words[None] & bits[:, None]) != 0
    return cells.astype(jnp.uint8).reshape(SIZE, SIZE, -1)


def by_row(number: int, *things: tuple[Any, Any]) -> jax.Array:
    """The board from where things are, one of each kind to a row at most.

    Args:
      number: of channels, C.
      *things: for each kind its columns, [10] int32 by row or [8] for rows 1 to 8, −1
        where there is none; and its channel, an integer or one for each row.

    Returns:
      [10, 10, C] uint8.
    """
    cells = jnp.zeros((SIZE, SIZE * number), bool)
    places = np.arange(SIZE * number, dtype=np.int8)[None]
    for columns, channel in things:
        place = jnp.where(columns >= 0, columns * number + channel, -1)
        if len(place) < SIZE:
            place = jnp.pad(place, 1, constant_values=-1)
        cells |= places == place.astype(jnp.int8)[:, None]
    return cells.astype(jnp.uint8).reshape(SIZE, SIZE, number)


def only(place: Any, value: Any) -> jax.Array:
    """`value` at one place of [10], else 0; int32."""
    return jnp.where(place == CELLS, value, 0)


def words(shape: tuple[int, ...], key: jax.Array) -> jax.Array:
    """Random words [*shape] uint32, each drawn once however many digits it has."""
    return random.once(jax.random.bits(random.unrolled(key), shape, jnp.uint32))


def digits(words: jax.Array, bases: Sequence[int]) -> tuple[list[jax.Array], jax.Array]:
    """Independent draws from 0, 1, …, base − 1 for each of some bases up to 16.

    They are the digits of the word as a fraction, to mixed bases. All outcomes are
    equally probable up to a relative error of the bases' product over 2²⁸.

    Args:
      words: [...] uint32.
      bases: the numbers of outcomes.

    Returns:
      (a [...] int32 for each base, what is left: [...] int32 in [0, 2²⁴)).
    """
    fraction, found = words >> (32 - _FRACTION_BITS), []
    for base in bases:
        product = fraction * base
        found.append((product >> _FRACTION_BITS).astype(jnp.int32))
        fraction = product & (2**_FRACTION_BITS - 1)
    return found, (fraction >> (_FRACTION_BITS - 24)).astype(jnp.int32)
