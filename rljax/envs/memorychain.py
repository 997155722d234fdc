"""A test of memory, with the rules of bsuite's MemoryChain."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.types import Env, TimeStep


class MemoryChainState(NamedTuple):
    """What has to be remembered, and for how long."""

    context: jax.Array
    """[B] bool: the bits."""
    query: jax.Array
    """[] int32: the index of the bit that is asked for."""
    time: jax.Array
    """[] int32: steps since the reset."""


@struct.dataclass
class MemoryChain(Env):
    """Say at the end of an episode which bit was shown at its start.

    An episode takes L + 1 steps, with L the `memory_length`. Observation o_t is what
    the t-th step returns, and o_0 is that of the reset. As in bsuite, the first step
    shows once more what the reset has shown:

        o_t = [[1 − u/L,  q · 1{u = L−1},  c_1 · 1{u = 0}, …, c_B · 1{u = 0}]]

    with u = max(t − 1, 0), the context c_i ∈ {−1, 1}, each drawn with probability 1/2,
    and the query q, uniform on 0, …, B−1. It is [1, 2 + B] floating. Only the last
    action counts, which has seen the query: the reward is 1 if it is 1 and bit q of the
    context was 1, or it is 0 and the bit was −1; it is −1 if not. All other rewards are
    0. As no observation holds bit and query at once, unless L is 1, an agent without
    memory gets 0 on average, whatever it does.

    Raises:
      TypeError, ValueError: a field has the wrong type or is out of its range.

    Source: Osband et al. (2020), Behaviour Suite for Reinforcement Learning,
    "memory_len" (num_bits = 1) and "memory_size" (memory_length = 2).
    """

    memory_length: int = struct.static(default=10)
    """L, 1 or more."""
    num_bits: int = struct.static(default=1)
    """B, the number of bits of the context, 1 or more."""

    def __post_init__(self):
        checks.ints(self, "memory_length", "num_bits", minimum=1)

    @property
    def observation_space(self) -> spaces.Box:
        """The share of time that is left, the query, and the context."""
        dtype = jnp.result_type(float)
        low = np.array([[0, 0] + [-1] * self.num_bits], dtype)
        high = np.array([[1, self.num_bits - 1] + [1] * self.num_bits], dtype)
        return spaces.Box(low, high, low.shape)

    @property
    def action_space(self) -> spaces.Discrete:
        """1 says that the bit was 1, 0 that it was −1."""
        return spaces.Discrete(2)

    def reset(self, key: jax.Array) -> tuple[MemoryChainState, jax.Array]:
        """Draws context and query."""
        draws = jax.random.uniform(random.unrolled(key), (self.num_bits + 1,))
        # State and observation both hold them; without `once`, XLA would draw twice.
        draws = random.once(draws)
        query = (draws[-1] * self.num_bits).astype(jnp.int32)
        state = MemoryChainState(draws[:-1] < 0.5, query, jnp.zeros((), jnp.int32))
        return state, self._observed(state)

    def step(
        self, state: MemoryChainState, action: jax.Array, key: jax.Array
    ) -> tuple[MemoryChainState, TimeStep]:
        """Waits, and at the end pays; this is deterministic and ignores `key`."""
        del key
        action = spaces.check_element(self.action_space, action, "MemoryChain's action")
        terminated = state.time == self.memory_length
        places = jax.lax.iota(jnp.int32, self.num_bits)
        bit = jnp.any(state.context & (places == state.query))
        outcome = 2 * ((action == 1) == bit).astype(float) - 1
        return state._replace(time=state.time + 1), TimeStep(
            obs=self._observed(state),
            reward=jnp.where(terminated, outcome, 0),
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def _observed(self, state: MemoryChainState) -> jax.Array:
        left = (self.memory_length - state.time).astype(float) / self.memory_length
        asks = state.time == self.memory_length - 1
        query = jnp.where(asks, state.query, 0).astype(float)
        context = 2 * state.context.astype(float) - 1
        context = jnp.where(state.time == 0, context, 0)
        return jnp.concatenate([jnp.stack([left, query]), context])[None]
