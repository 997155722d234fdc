"""MinAtar's Space Invaders."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, struct
from rljax.envs.minatar import game
from rljax.types import TimeStep

_WAVE = np.array([0, 0, 15, 15, 15, 15, 15, 15, 0, 0], np.int32)
_ALL_ROWS = 2**10 - 1
_BOTTOM = 2**9


class SpaceInvadersState(NamedTuple):
    """The cannon, the aliens, and the bullets of both sides.

    Of these there is a number for each column, in which bit i stands for row i, from
    the top.
    """

    cannon: jax.Array
    """[] int32: its column; it is in row 9."""
    aliens: jax.Array
    """[10] int32: the rows that have aliens, by column."""
    bullets: jax.Array
    """[10] int32: the rows that have bullets of the cannon, by column."""
    bombs: jax.Array
    """[10] int32: the rows that have bullets of the aliens, by column."""
    direction: jax.Array
    """[] int32: −1 if the aliens go left, 1 if they go right."""
    interval: jax.Array
    """[] int32: steps between two moves of the aliens while they are many."""
    move_timer: jax.Array
    """[] int32: steps before the one in which the aliens move."""
    bomb_timer: jax.Array
    """[] int32: steps before the one in which an alien shoots."""
    shot_timer: jax.Array
    """[] int32: steps before the one in which the cannon may shoot."""
    last_action: jax.Array
    """[] int32."""


@struct.dataclass
class SpaceInvaders(game.Game):
    """Shoot down aliens; each pays 1.

    The actions are none, left, right and fire; the cannon can fire in every fifth step.
    The aliens move sideways, all together, and go down by a row and turn where one of
    them is at the edge. They move once in as many steps as there are aliens, but in 12
    at most. In every tenth step, the lowest alien of the column nearest to the cannon
    shoots. After the last one is shot, a new wave appears at the top. With ramping, it
    moves once in 11 steps at most, the next one in 10, and so on down to 6. The episode
    terminates where a bullet or an alien hits the cannon, or where the aliens would
    have to go down from the bottom row.

    The channels are cannon, alien, alien_left and alien_right (the aliens once more, in
    the one of the way that they go), friendly_bullet and enemy_bullet.

    Source: Young and Tian (2019), MinAtar, arXiv:1903.03176; see `game.Game`.
    """

    difficulty_ramping: bool = struct.static(default=True)
    """Whether each wave is faster than the one before."""

    MINIMAL_ACTIONS: ClassVar[str] = "nlrf"
    CHANNELS: ClassVar[dict[str, str]] = {
        "cannon": "player",
        "alien": "enemy",
        "alien_left": "leftwards",
        "alien_right": "rightwards",
        "friendly_bullet": "bullet",
        "enemy_bullet": "bomb",
    }
    State: ClassVar[type] = SpaceInvadersState

    def __post_init__(self):
        super().__post_init__()
        checks.bools(self, "difficulty_ramping")

    def reset(self, key: jax.Array) -> tuple[SpaceInvadersState, jax.Array]:
        """24 aliens are at the top and go left; this ignores `key`."""
        del key
        checks.scalars(self)
        state = SpaceInvadersState(
            cannon=jnp.int32(5),
            aliens=jnp.asarray(_WAVE),
            bullets=jnp.zeros(10, jnp.int32),
            bombs=jnp.zeros(10, jnp.int32),
            direction=jnp.int32(-1),
            interval=jnp.int32(12),
            move_timer=jnp.int32(12),
            bomb_timer=jnp.int32(10),
            shot_timer=jnp.int32(0),
            last_action=jnp.int32(0),
        )
        return state, self.observe(state)

    def advance(
        self, state: SpaceInvadersState, action: jax.Array, noise: jax.Array
    ) -> tuple[SpaceInvadersState, TimeStep]:
        """Moves the cannon, all bullets, then the aliens; then aliens shoot and die."""
        action = self.taken(state, action, noise)
        fires = self.chosen(action, "f") & (state.shot_timer == 0)
        shot = game.only(state.cannon, jnp.where(fires, _BOTTOM, 0))
        bullets = (state.bullets | shot) >> 1
        bombs = (state.bombs << 1) & _ALL_ROWS
        cannon = jnp.clip(state.cannon + self.shift(action, "l", "r"), 0, 9)

        aliens, direction, move_timer, invaded = _march(state)
        # In the cannon's cell is what came down or was there before the aliens moved.
        at_cannon = game.only(cannon, (bombs | state.aliens | aliens) & _BOTTOM)
        shoots = state.bomb_timer == 0
        bombs |= jnp.where(shoots, _lowest_of_nearest(aliens, cannon), 0)
        killed = aliens & bullets
        cleared = jnp.all(aliens == killed)
        interval = state.interval
        if self.difficulty_ramping:
            interval -= (cleared & (interval > 6)).astype(jnp.int32)
        state = SpaceInvadersState(
            cannon=cannon,
            aliens=jnp.where(cleared, _WAVE, aliens ^ killed),
            bullets=bullets ^ killed,
            bombs=bombs,
            direction=direction,
            interval=interval,
            move_timer=move_timer - 1,
            bomb_timer=jnp.where(shoots, 10, state.bomb_timer) - 1,
            shot_timer=jnp.maximum(jnp.where(fires, 5, state.shot_timer) - 1, 0),
            last_action=action,
        )
        return state, TimeStep(
            obs=self.observe(state),
            reward=_count(killed).astype(float),
            terminated=invaded | jnp.any(at_cannon != 0),
            truncated=jnp.zeros((), bool),
        )

    def observe(self, state: SpaceInvadersState) -> jax.Array:
        """What an agent sees of a state, [10, 10, 6] uint8."""
        aliens, leftwards = state.aliens, state.direction < 0
        channels = (
            game.only(state.cannon, _BOTTOM),
            aliens,
            jnp.where(leftwards, aliens, 0),
            jnp.where(leftwards, 0, aliens),
            state.bullets,
            state.bombs,
        )
        # Without `once`, XLA would take the whole step again in each of 600 cells.
        return game.by_column(random.once(jnp.stack(channels, axis=-1)))


def _march(
    state: SpaceInvadersState,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(aliens, direction, move timer, whether they went down from the bottom row)."""
    aliens, direction = state.aliens, state.direction
    moves = state.move_timer == 0
    turns = moves & (jnp.where(direction < 0, aliens[0], aliens[9]) != 0)
    # From the bottom row they return to the top, where they are in the last picture.
    lower = ((aliens << 1) | (aliens >> 9)) & _ALL_ROWS
    aside = jnp.where(direction < 0, jnp.roll(aliens, -1), jnp.roll(aliens, 1))
    moved = jnp.where(moves, jnp.where(turns, lower, aside), aliens)
    invaded = turns & jnp.any((aliens & _BOTTOM) != 0)
    wait = jnp.minimum(_count(aliens), state.interval)
    timer = jnp.where(moves, wait, state.move_timer)
    return moved, jnp.where(turns, -direction, direction), timer, invaded


def _lowest_of_nearest(aliens: jax.Array, cannon: jax.Array) -> jax.Array:
    """The bit of the alien that shoots, [10]; of two columns as near, the left one."""
    right = (cannon < game.CELLS).astype(jnp.int32)
    distance = 2 * jnp.abs(game.CELLS - cannon) + right
    distance = jnp.where(aliens == 0, 99, distance)
    lowest = 1 << (31 - jax.lax.clz(aliens | 1))
    return jnp.where(distance == jnp.min(distance), lowest, 0)


def _count(rows: jax.Array) -> jax.Array:
    """The number of set bits in all columns, [] int32."""
    return jnp.sum(jax.lax.population_count(rows), dtype=jnp.int32)
