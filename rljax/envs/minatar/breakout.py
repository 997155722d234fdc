"""MinAtar's Breakout."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, random, struct
from rljax.envs.minatar import game
from rljax.types import TimeStep

_WALL = 2**30 - 1


class BreakoutState(NamedTuple):
    """Paddle, ball and bricks; rows and columns count from the top left, 0 to 9."""

    paddle: jax.Array
    """[] int32: its column; it is in row 9."""
    row: jax.Array
    """[] int32: of the ball."""
    column: jax.Array
    """[] int32: of the ball."""
    last_row: jax.Array
    """[] int32: of the ball one step ago."""
    last_column: jax.Array
    """[] int32: of the ball one step ago."""
    down: jax.Array
    """[] int32: change of the ball's row in a step, −1 or 1."""
    right: jax.Array
    """[] int32: change of the ball's column in a step, −1 or 1."""
    bricks: jax.Array
    """[] int32: bit 3 · column + row − 1 for each brick; they are in rows 1 to 3."""
    in_brick: jax.Array
    """[] bool: whether the last step met a brick; the next brick is then not broken."""
    last_action: jax.Array
    """[] int32."""


@struct.dataclass
class Breakout(game.Game):
    """Bounce a ball with a paddle against three rows of bricks; each pays 1.

    The actions are none, left and right. The ball moves by one cell on a diagonal and
    bounces off walls, bricks and the paddle. It goes back the way that it came if it
    meets the paddle's corner. The bricks come back when the ball reaches the bottom row
    after the last one was broken. The episode terminates where the ball gets past the
    paddle.

    The channels are paddle, ball, trail (where the ball was one step ago) and brick.

    Source: Young and Tian (2019), MinAtar, arXiv:1903.03176; see `game.Game`.
    """

    MINIMAL_ACTIONS: ClassVar[str] = "nlr"
    CHANNELS: ClassVar[dict[str, str]] = {
        "paddle": "paddle",
        "ball": "ball",
        "trail": "trail",
        "brick": "brick",
    }
    State: ClassVar[type] = BreakoutState

    def reset(self, key: jax.Array) -> tuple[BreakoutState, jax.Array]:
        """The ball is in row 3 at the left or the right wall, and on its way down."""
        checks.scalars(self)
        on_the_right = random.below(key, 2)
        row, column = jnp.int32(3), 9 * on_the_right
        state = BreakoutState(
            paddle=jnp.int32(4),
            row=row,
            column=column,
            last_row=row,
            last_column=column,
            down=jnp.int32(1),
            right=1 - 2 * on_the_right,
            bricks=jnp.int32(_WALL),
            in_brick=jnp.zeros((), bool),
            last_action=jnp.int32(0),
        )
        return state, self.observe(state)

    def advance(
        self, state: BreakoutState, action: jax.Array, noise: jax.Array
    ) -> tuple[BreakoutState, TimeStep]:
        """Moves the paddle, then the ball."""
        action = self.taken(state, action, noise)
        paddle = jnp.clip(state.paddle + self.shift(action, "l", "r"), 0, 9)
        row, column = state.row + state.down, state.column + state.right
        at_wall = (column < 0) | (column > 9)
        column = jnp.clip(column, 0, 9)

        has_bricks = (row >= 1) & (row <= 3)
        # Bit 30 is never set: it stands for a place without bricks.
        brick = 1 << jnp.where(has_bricks, 3 * column + row - 1, 30)
        in_brick = (state.bricks & brick) != 0
        breaks = in_brick & ~state.in_brick

        at_bottom = row == 9
        on_paddle = at_bottom & (state.column == paddle)
        on_corner = at_bottom & ~on_paddle & (column == paddle)
        bounces = (row < 0) | breaks | on_paddle | on_corner
        bricks = jnp.where(breaks, state.bricks ^ brick, state.bricks)
        state = BreakoutState(
            paddle=paddle,
            row=jnp.where(bounces, state.row, row),
            column=column,
            last_row=state.row,
            last_column=state.column,
            down=jnp.where(bounces, -state.down, state.down),
            right=jnp.where(at_wall ^ on_corner, -state.right, state.right),
            bricks=jnp.where(at_bottom & (bricks == 0), _WALL, bricks),
            in_brick=in_brick,
            last_action=action,
        )
        return state, TimeStep(
            obs=self.observe(state),
            reward=breaks.astype(float),
            terminated=at_bottom & ~bounces,
            truncated=jnp.zeros((), bool),
        )

    def observe(self, state: BreakoutState) -> jax.Array:
        """What an agent sees of a state, [10, 10, 4] uint8."""
        channels = (
            game.only(state.paddle, 1 << 9),
            game.only(state.column, 1 << state.row),
            game.only(state.last_column, 1 << state.last_row),
            (state.bricks >> 3 * game.CELLS & 7) << 1,
        )
        return game.by_column(jnp.stack(channels, axis=-1))
