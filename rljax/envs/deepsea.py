"""The deep sea, a test of exploration, with the rules of bsuite's DeepSea."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.envs import gridmaps, pictures
from rljax.mdp import from_outcomes
from rljax.types import MDP, Env, TimeStep


class DeepSeaState(NamedTuple):
    """Where the diver is; each field is [] int32."""

    row: jax.Array
    """Steps since the reset; `size` after the last one."""
    column: jax.Array
    """From 0 at the left to `size` − 1."""


@struct.dataclass
class DeepSea(Env):
    """Dive through N rows of N cells to a treasure that few ways lead to.

    Each step goes down by a row, and left or right by a column; at the edge it stays in
    its column. It starts in the first row and column and terminates after N steps. A
    move to the right costs move_cost / N, and one from the last row's last cell pays 1:

        r = 1{right, column = N−1} − move_cost / N · 1{right}

    So all N moves have to go right, and until that has happened once every reward says
    that left is better. Which of the two actions goes right differs from cell to cell.
    It is drawn once, as `mapping_seed` says, and the same in all episodes.

    With `stochastic`, a move to the right fails with probability 1/N: it costs the same
    but stays in its column. And in the last row, the first and the last cell's reward
    has noise from N(0, 1), whatever the action.

    The observation is the number of the cell, row · N + column, [] int32, and N² after
    the last step. That is what tables take, and agents with a network of their own turn
    it into a one-hot vector. With tabular=False it is bsuite's board.

    Raises:
      TypeError, ValueError: a field has the wrong type or is out of its range.

    Source: Osband et al. (2020), Behaviour Suite for Reinforcement Learning,
    "deep_sea" and "deep_sea_stochastic"; Osband et al. (2019), Deep Exploration via
    Randomized Value Functions.
    """

    size: int = struct.static(default=10)
    """N, the number of rows and of columns, 1 or more."""
    move_cost: float = 0.01
    """What N moves to the right cost together."""
    stochastic: bool = struct.static(default=False)
    """Whether moves to the right may fail and rewards at the end have noise."""
    mapping_seed: int | None = struct.static(default=42)
    """Which actions go right: bsuite's own draw from this seed, which is 42 in its
    experiments. None: action 1 does in every cell."""
    tabular: bool = struct.static(default=True)
    """Whether an observation is the number of the cell. If not, it is [N, N] floating:
    1 in the diver's cell, 0 elsewhere, and 0 everywhere after the last step."""

    def __post_init__(self):
        checks.ints(self, "size", minimum=1)
        checks.reals(self, "move_cost")
        checks.bools(self, "stochastic", "tabular")
        if self.mapping_seed is not None:
            checks.ints(self, "mapping_seed", minimum=0)

    @property
    def observation_space(self) -> spaces.Box | spaces.Discrete:
        """The number of the cell, or the board."""
        if self.tabular:
            return spaces.Discrete(self.size**2 + 1)
        return spaces.Box(0.0, 1.0, (self.size, self.size))

    @property
    def action_space(self) -> spaces.Discrete:
        """Which of 0 and 1 goes right depends on the cell."""
        return spaces.Discrete(2)

    def reset(self, key: jax.Array) -> tuple[DeepSeaState, jax.Array]:
        """Starts in the first cell; this is deterministic and ignores `key`."""
        del key
        checks.scalars(self)
        zero = jnp.zeros((), jnp.int32)
        state = DeepSeaState(zero, zero)
        return state, self._observed(state)

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """Draws nothing, or if `stochastic` a uniform and a normal number for each
        step: whether a move fails, and the noise of its reward."""
        if not self.stochastic:
            return ()
        key_move, key_reward = jax.random.split(key)
        return random.uniform(key_move, shape), random.normal(key_reward, shape)

    def advance(
        self, state: DeepSeaState, action: jax.Array, noise: Any
    ) -> tuple[DeepSeaState, TimeStep]:
        """Dives by a row."""
        action = spaces.check_element(self.action_space, action, "DeepSea's action")
        last = self.size - 1
        if not self.stochastic:
            after, reward = self._moved(state, action, jnp.zeros((), bool))
        else:
            move, of_reward = noise
            after, reward = self._moved(state, action, move < 1 / self.size)
            at_side = (state.column == 0) | (state.column == last)
            reward += jnp.where((state.row == last) & at_side, of_reward, 0)
        terminated = after.row == self.size
        return after, TimeStep(
            obs=self._observed(after),
            reward=reward,
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def to_mdp(self, *, sparse: bool = False) -> MDP:
        """The exact model, from the same function as `step`, of N² + 1 states.

        States are numbered as with `tabular`, whether that is set or not. The last one
        is terminal and absorbing; the cells right of the diagonal are never reached.

        Args:
          sparse: whether the transitions are a list of outcomes instead of [S, A, S].

        Raises:
          ValueError: the dense model would have more than 2²⁸ entries.
        """
        checks.scalars(self)
        return _model(self, sparse)

    def render(self, state: DeepSeaState, *, size: int = 400) -> np.ndarray:
        """The diver, a blue disc, in the water or on the ground, [H, W, 3] uint8.

        The dark row below is the ground, where an episode ends. The cell with the star
        is the one from which a move to the right pays.

        Raises:
          TypeError, ValueError: `state` is traced, batched, off the board or another
            environment's; or `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        checks.instance("state", state, DeepSeaState, "env.reset(key)[0]")
        row = pictures.index("state.row", state.row, self.size + 1)
        column = pictures.index("state.column", state.column, self.size)
        water = list(gridmaps.FREE * self.size**2)
        water[0], water[-1] = gridmaps.START, gridmaps.GOAL
        cells = "".join(water) + gridmaps.WALL * self.size
        starts = range(0, len(cells), self.size)
        layout = tuple(cells[i : i + self.size] for i in starts)
        return pictures.grid(layout, row * self.size + column, size=size)

    def _moved(
        self, state: DeepSeaState, action: jax.Array, fails: jax.Array
    ) -> tuple[DeepSeaState, jax.Array]:
        """Where a move leads, and its reward without noise."""
        goes_right = jnp.asarray(_mapping(self.size, self.mapping_seed))
        right = action == goes_right[self._number(state)]
        cost = jnp.asarray(self.move_cost, float) / self.size
        found = right & (state.column == self.size - 1)
        reward = found.astype(float) - jnp.where(right, cost, 0)
        by = jnp.where(right, (~fails).astype(jnp.int32), -1)
        column = jnp.clip(state.column + by, 0, self.size - 1)
        return DeepSeaState(state.row + 1, column), reward

    def _observed(self, state: DeepSeaState) -> jax.Array:
        if self.tabular:
            return self._number(state)
        shape = (self.size, self.size)
        cells = jax.lax.iota(jnp.int32, self.size**2).reshape(shape)
        return (cells == self._number(state)).astype(float)

    def _number(self, state: DeepSeaState) -> jax.Array:
        return jnp.minimum(state.row * self.size + state.column, self.size**2)


@functools.lru_cache(maxsize=64)
def _mapping(size: int, seed: int | None) -> np.ndarray:
    """The action that goes right in each cell, [N²] int32."""
    if seed is None:
        return np.ones(size**2, np.int32)
    # NumPy keeps the numbers of this old generator as they are for ever.
    draws = np.random.RandomState(seed).binomial(1, 0.5, size**2)
    return draws.astype(np.int32)


@functools.partial(jax.jit, static_argnames="sparse", inline=True)
def _model(env: DeepSea, sparse: bool) -> MDP:
    size, end = env.size, env.size**2
    cells = jax.lax.iota(jnp.int32, end)
    states = DeepSeaState(cells // size, cells % size)
    actions = jax.lax.iota(jnp.int32, env.action_space.n)
    # Where moves may fail, the first outcome of an action is that it does.
    chances = np.array([1 / size, 1 - 1 / size] if env.stochastic else [1.0])
    fails = jnp.asarray([True, False] if env.stochastic else [False])
    over_outcomes = jax.vmap(env._moved, (None, None, 0))
    over_actions = jax.vmap(over_outcomes, (None, 0, None))
    after, rewards = jax.vmap(over_actions, (0, None, None))(states, actions, fails)
    absorbing = ((0, 1), (0, 0), (0, 0))
    next_states = jnp.pad(env._number(after), absorbing, constant_values=end)
    rewards = jnp.pad(rewards[..., 0], absorbing[:2])
    numbers = jax.lax.iota(jnp.int32, end + 1)
    return from_outcomes(
        next_states, chances, rewards, numbers == end, numbers == 0, sparse=sparse
    )
