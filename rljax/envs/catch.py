"""Catch a falling ball, with the rules of bsuite's Catch."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.envs import pictures
from rljax.mdp import from_outcomes
from rljax.types import MDP, Env, TimeStep


class CatchState(NamedTuple):
    """Where ball and paddle are; each field is [] int32."""

    ball_row: jax.Array
    """Row of the ball, 0 at the top: the steps since the reset."""
    ball_column: jax.Array
    """Column of the ball, which it keeps."""
    paddle: jax.Array
    """Column of the paddle, which stays in the last row."""


@struct.dataclass
class Catch(Env):
    """Move a paddle along the bottom of a board to where a ball comes down.

    The ball starts in a column of the first row, drawn uniformly, and falls by a row in
    each step; the paddle starts in the middle, column ⌊columns / 2⌋. The actions move
    the paddle left (0), leave it where it is (1) or move it right (2); at the edge of
    the board it stays. The episode terminates when the ball is in the last row, after
    rows − 1 steps, with a reward of 1 if the paddle is there and −1 if not. All other
    rewards are 0. The observation is the board, [rows, columns] floating, 1 where the
    ball or the paddle is and 0 elsewhere.

    Raises:
      TypeError, ValueError: a field has the wrong type or is out of its range.

    Source: Osband et al. (2020), Behaviour Suite for Reinforcement Learning, "catch";
    the game is that of Mnih et al. (2014), Recurrent Models of Visual Attention, §4.2.
    """

    rows: int = struct.static(default=10)
    """Rows of the board, 2 or more."""
    columns: int = struct.static(default=5)
    """Columns of the board, 1 or more."""
    tabular: bool = struct.static(default=False)
    """Whether an observation is the number of the state, [] int32, for tables, in place
    of the board: (ball_row · columns + ball_column) · columns + paddle."""

    def __post_init__(self):
        checks.ints(self, "rows", minimum=2)
        checks.ints(self, "columns", minimum=1)
        checks.bools(self, "tabular")

    @property
    def observation_space(self) -> spaces.Box | spaces.Discrete:
        """The board, or the number of the state."""
        if self.tabular:
            return spaces.Discrete(self.rows * self.columns**2)
        return spaces.Box(0.0, 1.0, (self.rows, self.columns))

    @property
    def action_space(self) -> spaces.Discrete:
        """0 moves left, 1 stays, 2 moves right."""
        return spaces.Discrete(3)

    def reset(self, key: jax.Array) -> tuple[CatchState, jax.Array]:
        """Draws the ball's column."""
        draw = jax.random.uniform(random.unrolled(key)) * self.columns
        # State and observation both hold it; without `once`, XLA would draw it twice.
        column = random.once(draw.astype(jnp.int32))
        middle = jnp.full_like(column, self.columns // 2)
        state = CatchState(jnp.zeros_like(column), column, middle)
        return state, self._observed(state)

    def step(
        self, state: CatchState, action: jax.Array, key: jax.Array
    ) -> tuple[CatchState, TimeStep]:
        """Moves paddle and ball; this is deterministic and ignores `key`."""
        del key
        action = spaces.check_element(self.action_space, action, "Catch's action")
        return self._moved(state, action)

    def to_mdp(self, *, sparse: bool = False) -> MDP:
        """The exact model, from the same function as `step`, of all states.

        States are numbered as with `tabular`, whether that is set or not. Those with
        the ball in the last row are terminal and absorbing.

        Args:
          sparse: whether the transitions are a list of outcomes instead of [S, A, S].

        Raises:
          ValueError: the dense model would have more than 2²⁸ entries.
        """
        return _model(self, sparse)

    def render(self, state: CatchState, *, size: int = 400) -> np.ndarray:
        """The board, its longer side of about `size` pixels, [H, W, 3] uint8.

        The ball is gold and the paddle blue; a ball that was missed is dark red.

        Raises:
          TypeError, ValueError: `state` is traced, batched, off the board or another
            environment's; or `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        checks.instance("state", state, CatchState, "env.reset(key)[0]")
        row = pictures.index("state.ball_row", state.ball_row, self.rows)
        column = pictures.index("state.ball_column", state.ball_column, self.columns)
        paddle = pictures.index("state.paddle", state.paddle, self.columns)
        cells = np.zeros((self.rows, self.columns, 2), bool)
        cells[-1, paddle, 0] = cells[row, column, 1] = True
        missed = row == self.rows - 1 and column != paddle
        ball = "enemy" if missed else "gold"
        return pictures.board(cells, ("paddle", ball), size=size)

    def _moved(
        self, state: CatchState, action: jax.Array
    ) -> tuple[CatchState, TimeStep]:
        paddle = jnp.clip(state.paddle + action - 1, 0, self.columns - 1)
        state = CatchState(state.ball_row + 1, state.ball_column, paddle)
        terminated = state.ball_row == self.rows - 1
        outcome = 2 * (paddle == state.ball_column).astype(float) - 1
        return state, TimeStep(
            obs=self._observed(state),
            reward=jnp.where(terminated, outcome, 0),
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def _observed(self, state: CatchState) -> jax.Array:
        if self.tabular:
            return self._number(state)
        board = (self.rows, self.columns)
        cells = jax.lax.iota(jnp.int32, self.rows * self.columns).reshape(board)
        ball = state.ball_row * self.columns + state.ball_column
        paddle = (self.rows - 1) * self.columns + state.paddle
        return ((cells == ball) | (cells == paddle)).astype(float)

    def _number(self, state: CatchState) -> jax.Array:
        ball = state.ball_row * self.columns + state.ball_column
        return ball * self.columns + state.paddle


@functools.partial(jax.jit, static_argnames="sparse", inline=True)
def _model(env: Catch, sparse: bool) -> MDP:
    rows, columns = env.rows, env.columns
    numbers = jax.lax.iota(jnp.int32, rows * columns**2)
    balls, paddles = numbers // columns, numbers % columns
    states = CatchState(balls // columns, balls % columns, paddles)
    over_actions = jax.vmap(env._moved, (None, 0))
    actions = jax.lax.iota(jnp.int32, env.action_space.n)
    after, time_step = jax.vmap(over_actions, (0, None))(states, actions)
    terminal = states.ball_row == rows - 1
    starts = (states.ball_row == 0) & (paddles == columns // 2)
    initial = starts.astype(float) / columns
    next_states = env._number(after)[..., None]
    return from_outcomes(
        next_states, 1.0, time_step.reward, terminal, initial, sparse=sparse
    )
