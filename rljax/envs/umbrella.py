"""A test of credit assignment, with the rules of bsuite's UmbrellaChain."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, random, spaces, struct
from rljax.types import Env, TimeStep


class UmbrellaState(NamedTuple):
    """What the weather will be, and whether there is an umbrella for it."""

    need: jax.Array
    """[] bool: whether it will rain at the end."""
    have: jax.Array
    """[] bool: whether the umbrella is taken along."""
    time: jax.Array
    """[] int32: steps since the reset."""


@struct.dataclass
class Umbrella(Env):
    """Take an umbrella along if it will rain, and be paid for it much later.

    Only the first action counts: 1 takes the umbrella, 0 leaves it. The episode
    terminates after L steps, L being the `chain_length`. Its last reward is 1 exactly
    if the umbrella is there when it rains, or left when it does not, and −1 if not. The
    rewards before are noise, 1 or −1 with probability 1/2 each. So the best policy gets
    1 on average.

        o_t = [[need, have, 1 − t/L, d_1, …, d_D]]

    is the observation after t steps, [1, 3 + D] floating. Whether one is needed is
    drawn with probability 1/2 for an episode; so is whether there is one before the
    first step. The distractors d_i are 0 or 1 with probability 1/2, new in each step.

    Raises:
      TypeError, ValueError: a field has the wrong type or is out of its range.

    Source: Osband et al. (2020), Behaviour Suite for Reinforcement Learning,
    "umbrella_length" (20 distractors) and "umbrella_distract" (chain_length = 20).
    """

    chain_length: int = struct.static(default=10)
    """L, steps of an episode, 1 or more."""
    num_distractors: int = struct.static(default=20)
    """D, 0 or more."""

    def __post_init__(self):
        checks.ints(self, "chain_length", minimum=1)
        checks.ints(self, "num_distractors", minimum=0)

    @property
    def observation_space(self) -> spaces.Box:
        """Need, umbrella, the share of time that is left, and the distractors."""
        return spaces.Box(0.0, 1.0, (1, 3 + self.num_distractors))

    @property
    def action_space(self) -> spaces.Discrete:
        """At first, 1 takes the umbrella and 0 leaves it."""
        return spaces.Discrete(2)

    def reset(self, key: jax.Array) -> tuple[UmbrellaState, jax.Array]:
        """Draws the weather, whether there is an umbrella, and the distractors."""
        coins = random.coins(key, (2 + self.num_distractors,))
        state = UmbrellaState(coins[0], coins[1], jnp.zeros((), jnp.int32))
        return state, self._observed(state, coins[2:])

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        """Draws a coin for each step's reward, then one for each distractor."""
        return random.coins(key, (*shape, 1 + self.num_distractors))

    def advance(
        self, state: UmbrellaState, action: jax.Array, noise: jax.Array
    ) -> tuple[UmbrellaState, TimeStep]:
        """Takes the umbrella, if it is the first step, and walks on."""
        action = spaces.check_element(self.action_space, action, "Umbrella's action")
        have = jnp.where(state.time == 0, action == 1, state.have)
        state = UmbrellaState(state.need, have, state.time + 1)
        terminated = state.time == self.chain_length
        good = jnp.where(terminated, have == state.need, noise[0])
        return state, TimeStep(
            obs=self._observed(state, noise[1:]),
            reward=2 * good.astype(float) - 1,
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def _observed(self, state: UmbrellaState, distractors: jax.Array) -> jax.Array:
        left = (self.chain_length - state.time).astype(float) / self.chain_length
        known = jnp.stack([state.need.astype(float), state.have.astype(float), left])
        return jnp.concatenate([known, distractors.astype(float)])[None]
