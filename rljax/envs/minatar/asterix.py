"""MinAtar's Asterix."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, struct
from rljax.envs.minatar import game
from rljax.types import TimeStep

_ROWS = np.arange(1, 9, dtype=np.int32)
_RAMP_INTERVAL = 102
_MAX_LEVEL = 9


class AsterixState(NamedTuple):
    """The player, and what moves in the rows 1 to 8, one thing a row at most."""

    row: jax.Array
    """[] int32: of the player, 1 to 8 from the top."""
    column: jax.Array
    """[] int32: of the player, 0 to 9 from the left."""
    columns: jax.Array
    """[8] int32: of the things in rows 1 to 8; −1 where there is none."""
    directions: jax.Array
    """[8] int32: −1 for things that go left, 1 for those that go right."""
    gold: jax.Array
    """[8] bool: whether the things are gold; else they are enemies."""
    spawn_timer: jax.Array
    """[] int32: steps before the one that brings a new thing."""
    move_timer: jax.Array
    """[] int32: steps before the one in which all things move."""
    time: jax.Array
    """[] int32: steps so far, counted up to 918, when the game is hardest; always 0
    without ramping."""
    last_action: jax.Array
    """[] int32."""


class AsterixNoise(NamedTuple):
    """The randomness of a step."""

    sticky: jax.Array
    """[] bool: whether it repeats the last action."""
    rightwards: jax.Array
    """[] bool: whether a new thing comes from the left and goes right."""
    gold: jax.Array
    """[] bool: whether it is gold."""
    place: jax.Array
    """[] int32 in [0, 2²⁴): which of the free rows it comes in, as a fraction."""


@struct.dataclass
class Asterix(game.Game):
    """Gather gold, which pays 1, and keep away from enemies.

    The actions are none, left, up, right and down. Things enter from either side in a
    free row and cross the board; one in three is gold. A new one comes every 10 steps,
    and all move every 5. With ramping, things come more often after every 102 steps and
    move more often after every second such interval, until both happen in every step.
    The episode terminates where the player and an enemy meet.

    The channels are player, enemy, trail (the cell behind a thing) and gold.

    Source: Young and Tian (2019), MinAtar, arXiv:1903.03176; see `game.Game`.
    """

    difficulty_ramping: bool = struct.static(default=True)
    """Whether the game becomes faster with time."""

    MINIMAL_ACTIONS: ClassVar[str] = "nlurd"
    CHANNELS: ClassVar[dict[str, str]] = {
        "player": "player",
        "enemy": "enemy",
        "trail": "trail",
        "gold": "gold",
    }
    State: ClassVar[type] = AsterixState

    def __post_init__(self):
        super().__post_init__()
        checks.bools(self, "difficulty_ramping")

    def reset(self, key: jax.Array) -> tuple[AsterixState, jax.Array]:
        """The player is in the middle of an empty board; this ignores `key`."""
        del key
        checks.scalars(self)
        state = AsterixState(
            row=jnp.int32(5),
            column=jnp.int32(5),
            columns=jnp.full(8, -1, jnp.int32),
            directions=jnp.ones(8, jnp.int32),
            gold=jnp.zeros(8, bool),
            spawn_timer=jnp.int32(10),
            move_timer=jnp.int32(5),
            time=jnp.int32(0),
            last_action=jnp.int32(0),
        )
        return state, self.observe(state)

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> AsterixNoise:
        """What each step would bring, if it brings something."""
        key_sticky, key_thing = random.split(key)
        words = game.words(shape, key_thing)
        (rightwards, kind), place = game.digits(words, (2, 3))
        sticky = super().draw(shape, key_sticky)
        return AsterixNoise(sticky, rightwards == 0, kind == 0, place)

    def advance(
        self, state: AsterixState, action: jax.Array, noise: AsterixNoise
    ) -> tuple[AsterixState, TimeStep]:
        """Brings a new thing if it is time, moves the player, then all things."""
        action = self.taken(state, action, noise.sticky)
        level = state.time // _RAMP_INTERVAL
        spawns, moves = state.spawn_timer == 0, state.move_timer == 0
        spawn_timer = jnp.where(spawns, jnp.maximum(10 - level, 1), state.spawn_timer)
        move_timer = jnp.where(moves, jnp.maximum(5 - level // 2, 1), state.move_timer)

        columns, directions, gold = _with_new(state, noise, spawns)
        row = jnp.clip(state.row + self.shift(action, "u", "d"), 1, 8)
        column = jnp.clip(state.column + self.shift(action, "l", "r"), 0, 9)
        # Gold that the player steps on is gone before it could move.
        met = (row == _ROWS) & (columns == column)
        columns = jnp.where(met & gold, -1, columns)
        moved = jnp.where(columns >= 0, columns + directions, -1)
        columns = jnp.where(moves, jnp.where(moved > 9, -1, moved), columns)
        met |= (row == _ROWS) & (columns == column)

        time = state.time + int(self.difficulty_ramping)
        state = AsterixState(
            row=row,
            column=column,
            columns=jnp.where(met & gold, -1, columns),
            directions=directions,
            gold=gold,
            spawn_timer=spawn_timer - 1,
            move_timer=move_timer - 1,
            time=jnp.minimum(time, _MAX_LEVEL * _RAMP_INTERVAL),
            last_action=action,
        )
        return state, TimeStep(
            obs=self.observe(state),
            reward=jnp.any(met & gold).astype(float),
            terminated=jnp.any(met & ~gold),
            truncated=jnp.zeros((), bool),
        )

    def observe(self, state: AsterixState) -> jax.Array:
        """What an agent sees of a state, [10, 10, 4] uint8."""
        behind = state.columns - state.directions
        seen = (state.columns >= 0) & (behind <= 9)
        return game.by_row(
            4,
            (jnp.where(state.row == game.CELLS, state.column, -1), 0),
            (state.columns, jnp.where(state.gold, 3, 1)),
            (jnp.where(seen, behind, -1), 2),
        )


def _with_new(
    state: AsterixState, noise: AsterixNoise, spawns: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(columns, directions, gold) of all things, a new one among them if one comes."""
    comes = spawns & _nth_free(state.columns < 0, noise.place)
    columns = jnp.where(comes, jnp.where(noise.rightwards, 0, 9), state.columns)
    direction = jnp.where(noise.rightwards, 1, -1)
    directions = jnp.where(comes, direction, state.directions)
    return columns, directions, jnp.where(comes, noise.gold, state.gold)


def _nth_free(free: jax.Array, place: jax.Array) -> jax.Array:
    """The free row [8] bool that a fraction of 2²⁴ stands for; none if none is free."""
    bits = np.left_shift(1, _ROWS - 1)
    word = jnp.sum(jnp.where(free, bits, 0), dtype=jnp.int32)
    earlier = jax.lax.population_count(word & (bits - 1))
    number = jax.lax.population_count(word)
    return free & (earlier == (place * number) >> 24)
