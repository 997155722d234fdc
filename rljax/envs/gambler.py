"""The gambler's problem: how much to stake to reach a goal before all is lost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.mdp import from_outcomes
from rljax.types import MDP, Env, TimeStep


@struct.dataclass
class Gambler(Env):
    """Stake money on heads or tails, until the goal is reached or all is lost.

        s' = s + x with probability p,   s' = s − x otherwise
        x = min(a + 1, s, goal − s)

    The action a stakes a + 1, or as much as there is or is needed. State and
    observation are the capital s, [] int32 from 0 to the goal; the capital at first is
    uniform on 1, …, goal − 1. The reward is 1 where the goal is reached, else 0, so
    that a value at a discount of 1 is the probability to get there. The episode
    terminates at 0 and at the goal.

    The book also allows a stake of 0. It is left out: it changes nothing, and a policy
    that chose it would go on for ever.

    Raises:
      TypeError, ValueError: `heads` is not in [0, 1], or `goal` not from 2 to 65,536.

    Source: Sutton and Barto (2018), example 4.3; Dubins and Savage (1965).
    """

    heads: float = 0.4
    """p, probability of heads; a leaf, so you can vmap over it."""
    goal: int = struct.static(default=100)
    """The capital to be reached."""

    def __post_init__(self):
        checks.reals(self, "heads", minimum=0.0, maximum=1.0)
        goal = checks.integer("Gambler.goal", self.goal, minimum=2, maximum=2**16)
        object.__setattr__(self, "goal", goal)

    @property
    def observation_space(self) -> spaces.Discrete:
        """The capital, from 0 to the goal."""
        return spaces.Discrete(self.goal + 1)

    @property
    def action_space(self) -> spaces.Discrete:
        """Action a stakes a + 1; more than half of the goal is never needed."""
        return spaces.Discrete(self.goal // 2)

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws the capital at first."""
        checks.scalars(self)
        capital = 1 + random.below(key, self.goal - 1)
        return capital, capital

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        """Draws a uniform number for each toss."""
        return random.uniform(key, shape)

    def advance(
        self, state: jax.Array, action: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, TimeStep]:
        """Tosses the coin."""
        action = spaces.check_element(self.action_space, action, "Gambler's action")
        stake = self._stake(state, action)
        capital = jnp.where(noise < self.heads, state + stake, state - stake)
        won = capital >= self.goal
        return capital, TimeStep(
            obs=capital,
            reward=won.astype(float),
            terminated=won | (capital <= 0),
            truncated=jnp.zeros_like(won),
        )

    def to_mdp(self, *, sparse: bool = False) -> MDP:
        """The exact model.

        Args:
          sparse: whether the transitions are a list of two outcomes, heads and tails,
            instead of [S, A, S].

        Raises:
          ValueError: the dense model would have more than 2²⁸ entries.
        """
        checks.scalars(self)
        return _model(self, sparse)

    def _stake(self, capital: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.minimum(action + 1, jnp.minimum(capital, self.goal - capital))


@functools.partial(jax.jit, static_argnames="sparse", inline=True)
def _model(env: Gambler, sparse: bool) -> MDP:
    goal = env.goal
    capital = jnp.arange(goal + 1, dtype=jnp.int32)[:, None]
    actions = jnp.arange(goal // 2, dtype=jnp.int32)[None, :]
    stake = env._stake(capital, actions)
    next_states = jnp.stack([capital + stake, capital - stake], axis=-1)
    heads = jnp.asarray(env.heads, float)
    chances = jnp.stack([heads, 1 - heads])
    rewards = jnp.where(next_states[..., 0] == goal, heads, 0)
    over = np.isin(np.arange(goal + 1), (0, goal))
    initial = ~over / (goal - 1)
    return from_outcomes(next_states, chances, rewards, over, initial, sparse=sparse)
