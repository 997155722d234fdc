"""Text generation as a Markov decision process that is small enough to enumerate.

The state is the prompt and the prefix written so far; an action appends a token; the
reward comes with the last token. States are numbered as in `rljax.rlhf.sequences`, so
that tables, networks and planning can all be used.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, spaces, struct
from rljax.rlhf import sequences
from rljax.rlhf.rewards import Reward, RewardFunction
from rljax.types import MDP, Env, SparseTransitions, TimeStep


class TokenState(NamedTuple):
    """The prompt, and what has been written."""

    prefix: jax.Array
    """[] int32: the number of the prefix, prompt included; it is the observation."""
    length: jax.Array
    """[] int32: how many tokens have been written."""


@struct.dataclass
class TokenMDP(Env):
    """The agent writes H tokens out of V after a prompt, for a reward at the end.

        s_{h+1} = (s_h, y_{h+1}),   r_h = 0 for h < H,   r_H = reward(x, y_1 … y_H)

    Prompts x are drawn uniformly. An episode has H steps and is terminated, never
    truncated; its undiscounted return is the reward. The observation is the state's
    number, [] int32, from which `decode` gives the tokens.

    Raises:
      TypeError: `reward` is not callable.
      ValueError: a size is too small, the reward does not fit the sizes, or there are
        more states than an int32 can number.

    Source: generation as a token-level MDP, Ramamurthy et al. (2022),
      arXiv:2210.01241.
    """

    reward: Any
    """Function of (prompt [] int32, tokens [H] int32) that returns a floating scalar: a
    pytree such as those of `rljax.rlhf.rewards`, whose leaves can be swept, or a plain
    function."""
    vocabulary_size: int = struct.static(default=8)
    """V, the number of different tokens, 2 or more."""
    horizon: int = struct.static(default=4)
    """H, the number of tokens in a whole sequence, 1 or more."""
    num_prompts: int = struct.static(default=1)

    def __post_init__(self):
        checks.ints(self, "vocabulary_size", minimum=2)
        checks.ints(self, "horizon", "num_prompts", minimum=1)
        if not callable(self.reward):
            raise TypeError(
                "TokenMDP.reward must be a function of (prompt, tokens), got "
                f"{self.reward!r}."
            )
        reward: Any = self.reward
        if jax.tree_util.all_leaves([reward]):
            object.__setattr__(self, "reward", RewardFunction(reward))
        if isinstance(self.reward, Reward):
            self.reward.check_sizes(self.sizes)
        if self.num_prompts * self.num_prefixes >= 2**31:
            raise ValueError(
                f"TokenMDP has {self.num_prompts * self.num_prefixes:,} states, more "
                "than an int32 can number. Lower vocabulary_size, horizon or "
                "num_prompts."
            )

    @property
    def sizes(self) -> sequences.Sizes:
        """V, H and P, on which networks, rewards and data must agree."""
        return sequences.Sizes(self.vocabulary_size, self.horizon, self.num_prompts)

    @property
    def num_prefixes(self) -> int:
        """N, the number of prefixes of one prompt: see `sequences.Sizes`."""
        return self.sizes.num_prefixes

    @property
    def observation_space(self) -> spaces.Discrete:
        """The numbers of the states."""
        return spaces.Discrete(self.num_prompts * self.num_prefixes)

    @property
    def action_space(self) -> spaces.Discrete:
        """The tokens of the vocabulary."""
        return spaces.Discrete(self.vocabulary_size)

    def reset(self, key: jax.Array) -> tuple[TokenState, jax.Array]:
        """Draws a prompt; nothing is written yet."""
        prompt = jax.random.randint(key, (), 0, self.num_prompts, jnp.int32)
        index = prompt * self.num_prefixes
        return TokenState(index, jnp.zeros((), jnp.int32)), index

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> tuple[()]:
        """Draws nothing, as appending a token is deterministic."""
        return ()

    def advance(
        self, state: TokenState, action: jax.Array, noise: Any
    ) -> tuple[TokenState, TimeStep]:
        """Appends a token; ignores `noise`."""
        action = spaces.check_element(self.action_space, action, "a token")
        index = sequences.append(
            state.prefix, action, self.vocabulary_size, self.horizon
        )
        length = state.length + 1
        ended = length == self.horizon
        prompt, tokens, _ = self.decode(index)
        reward = self._reward(prompt, tokens)
        time_step = TimeStep(
            index, jnp.where(ended, reward, 0), ended, jnp.zeros((), bool)
        )
        return TokenState(index, length), time_step

    def decode(self, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The prompt, the tokens and how many they are: see `sequences.decode`."""
        return sequences.decode(index, self.vocabulary_size, self.horizon)

    def sequence_rewards(self) -> jax.Array:
        """The rewards of all whole sequences, [P, V^H], in the order of their codes."""
        tokens = jnp.asarray(sequences.all_tokens(self.vocabulary_size, self.horizon))
        prompts = jnp.arange(self.num_prompts, dtype=jnp.int32)
        over_tokens = jax.vmap(self._reward, (None, 0))
        return jax.vmap(over_tokens, (0, None))(prompts, tokens)

    def _reward(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        reward = jnp.asarray(self.reward(prompt, tokens), jnp.result_type(float))
        if reward.shape != ():
            raise ValueError(
                f"TokenMDP.reward must return a scalar, returns shape {reward.shape}."
            )
        return reward

    def to_mdp(self, *, sparse: bool = True) -> MDP:
        """The exact model: every prefix of every prompt is a state.

        Args:
          sparse: whether the transitions are a list of outcomes instead of [S, A, S].
        """
        indices = jnp.arange(self.observation_space.n, dtype=jnp.int32)
        tokens = jnp.arange(self.vocabulary_size, dtype=jnp.int32)
        _, _, lengths = jax.vmap(self.decode)(indices)
        terminal = lengths == self.horizon
        states = TokenState(indices, lengths)
        over_tokens = jax.vmap(lambda s, a: self.advance(s, a, ())[1], (None, 0))
        outcomes = jax.vmap(over_tokens, (0, None))(states, tokens)
        ended = terminal[:, None]
        next_states = jnp.where(ended, indices[:, None], outcomes.obs)[..., None]
        transitions: Any = SparseTransitions(
            next_states, jnp.ones(next_states.shape, jnp.result_type(float))
        )
        if not sparse:
            transitions = transitions.dense(len(indices))
        starts = jnp.asarray(indices % self.num_prefixes == 0, float)
        return MDP(
            transitions=transitions,
            rewards=jnp.where(ended, 0, outcomes.reward),
            terminal=terminal,
            initial=starts / self.num_prompts,
        )
