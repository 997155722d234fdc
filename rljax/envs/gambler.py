"""The gambler's problem: how much to stake to reach a goal before all is lost."""

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.types import MDP, Env, SparseTransitions, TimeStep


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
        checks.integer("Gambler.goal", self.goal, minimum=2, maximum=2**16)

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
        """
        checks.scalars(self)
        capital = jnp.arange(self.goal + 1, dtype=jnp.int32)[:, None]
        actions = jnp.arange(self.goal // 2, dtype=jnp.int32)[None, :]
        stake = self._stake(capital, actions)
        next_states = jnp.stack([capital + stake, capital - stake], axis=-1)
        heads = jnp.asarray(self.heads, float)
        chances = jnp.broadcast_to(jnp.stack([heads, 1 - heads]), next_states.shape)
        wins = (next_states[..., 0] == self.goal) & (capital < self.goal)
        over = np.isin(np.arange(self.goal + 1), (0, self.goal))
        transitions = SparseTransitions(next_states, chances)
        return MDP(
            transitions if sparse else transitions.dense(self.goal + 1),
            rewards=jnp.where(wins, heads, 0),
            terminal=jnp.asarray(over),
            initial=jnp.asarray(~over / (self.goal - 1), float),
        )

    def _stake(self, capital: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.minimum(action + 1, jnp.minimum(capital, self.goal - capital))
