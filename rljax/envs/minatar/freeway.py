"""MinAtar's Freeway."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, struct
from rljax.envs.minatar import game
from rljax.types import TimeStep

_ROWS = np.arange(1, 9, dtype=np.int32)
_COLUMN = 4
_MAX_STEPS = 2501


class FreewayState(NamedTuple):
    """The chicken and the cars, one in each of the rows 1 to 8."""

    row: jax.Array
    """[] int32: of the chicken, 1 to 9 from the top; it is in column 4."""
    columns: jax.Array
    """[8] int32: of the cars in rows 1 to 8, 0 to 9 from the left."""
    speeds: jax.Array
    """[8] int32: ±1 to ±5. A car moves once in |speed| + 1 steps, to the right if its
    speed is positive."""
    timers: jax.Array
    """[8] int32: steps before the one in which a car moves."""
    move_timer: jax.Array
    """[] int32: steps before the one in which the chicken may move."""
    time: jax.Array
    """[] int32: steps so far."""
    last_action: jax.Array
    """[] int32."""


class FreewayNoise(NamedTuple):
    """The randomness of a step."""

    sticky: jax.Array
    """[] bool: whether it repeats the last action."""
    speeds: jax.Array
    """[8] int32: the cars' speeds, if the chicken gets across in this step."""


@struct.dataclass
class Freeway(game.Game):
    """Walk a chicken across a road with eight lanes; each time pays 1.

    The actions are none, up and down. The chicken can move in every third step. Where a
    car is, it goes back to the bottom. When it reaches the top, it is put back to the
    bottom too, and all cars are given new speeds. Cars that leave the board return on
    its other side. The episode terminates at step 2,501, which the observation does not
    announce.

    The channels are chicken, car, and the cell behind a car in one of five, by the
    magnitude of its speed: speed1 for the fastest cars, …, speed5 for the slowest.

    Source: Young and Tian (2019), MinAtar, arXiv:1903.03176; see `game.Game`.
    """

    MINIMAL_ACTIONS: ClassVar[str] = "nud"
    CHANNELS: ClassVar[dict[str, str]] = {
        "chicken": "player",
        "car": "enemy",
        "speed1": "trail5",
        "speed2": "trail4",
        "speed3": "trail3",
        "speed4": "trail2",
        "speed5": "trail1",
    }
    State: ClassVar[type] = FreewayState

    def reset(self, key: jax.Array) -> tuple[FreewayState, jax.Array]:
        """Cars of random speeds are in column 0, and the chicken at the bottom."""
        checks.scalars(self)
        speeds = _draw_speeds((), key)
        state = FreewayState(
            row=jnp.int32(9),
            columns=jnp.zeros(8, jnp.int32),
            speeds=speeds,
            timers=jnp.abs(speeds),
            move_timer=jnp.int32(3),
            time=jnp.int32(0),
            last_action=jnp.int32(0),
        )
        return state, self.observe(state)

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> FreewayNoise:
        """New speeds for each step, should the chicken get across in it."""
        key_sticky, key_speeds = random.split(key)
        sticky = super().draw(shape, key_sticky)
        return FreewayNoise(sticky, _draw_speeds(shape, key_speeds))

    def advance(
        self, state: FreewayState, action: jax.Array, noise: FreewayNoise
    ) -> tuple[FreewayState, TimeStep]:
        """Moves the chicken, then the cars."""
        action = self.taken(state, action, noise.sticky)
        step = jnp.where(state.move_timer == 0, self.shift(action, "u", "d"), 0)
        row = jnp.minimum(state.row + step, 9)
        move_timer = jnp.where(step == 0, state.move_timer, 3)
        across = row == 0
        row = jnp.where(across, 9, row)

        speeds = jnp.where(across, noise.speeds, state.speeds)
        timers = jnp.where(across, jnp.abs(speeds), state.timers)
        moves = timers == 0
        moved = state.columns + jnp.sign(speeds)
        moved = jnp.where(moved < 0, 9, jnp.where(moved > 9, 0, moved))
        columns = jnp.where(moves, moved, state.columns)
        # It is hit by a car that is there before the cars move, or after.
        in_column = (state.columns == _COLUMN) | (columns == _COLUMN)
        hit = jnp.any((row == _ROWS) & in_column)

        state = FreewayState(
            row=jnp.where(hit, 9, row),
            columns=columns,
            speeds=speeds,
            timers=jnp.where(moves, jnp.abs(speeds), timers - 1),
            move_timer=jnp.maximum(move_timer - 1, 0),
            time=state.time + 1,
            last_action=action,
        )
        return state, TimeStep(
            obs=self.observe(state),
            reward=across.astype(float),
            terminated=state.time >= _MAX_STEPS,
            truncated=jnp.zeros((), bool),
        )

    def observe(self, state: FreewayState) -> jax.Array:
        """What an agent sees of a state, [10, 10, 7] uint8."""
        behind = state.columns - jnp.sign(state.speeds)
        behind = jnp.where(behind < 0, 9, jnp.where(behind > 9, 0, behind))
        return game.by_row(
            7,
            (jnp.where(state.row == game.CELLS, _COLUMN, -1), 0),
            (state.columns, 1),
            (behind, 1 + jnp.abs(state.speeds)),
        )


def _draw_speeds(shape: tuple[int, ...], key: jax.Array) -> jax.Array:
    """Speeds [*shape, 8], ±1 to ±5: four to a random word."""
    found, _ = game.digits(game.words((*shape, 2), key), (10,) * 4)
    outcome = jnp.stack(found, axis=-1).reshape(*shape, 8)
    return jnp.where(outcome < 5, outcome + 1, 4 - outcome)
