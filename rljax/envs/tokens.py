"""Writing a sequence of tokens, as a Markov decision process that is small enough to
enumerate: the bridge from control to language models.

The state is the prompt and the prefix written so far; an action appends a token; the
reward comes with the last one. States are numbered as in `rljax.sequences`, so that
tables, networks and planning serve it alike.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import sequences, spaces, struct
from rljax.rewards import RewardFunction
from rljax.types import MDP, SparseTransitions, TimeStep


class TokenState(NamedTuple):
    """What has been written."""

    prefix: jax.Array
    """[] int32: the number of the prompt and the prefix, the observation."""
    length: jax.Array
    """[] int32: tokens so far."""


@struct.dataclass
class TokenMDP:
    """Writes H tokens out of V after one of several prompts; rewarded at the end.

        s_{h+1} = (s_h, y_{h+1}),   r_h = 0 for h < H,   r_H = reward(x, y_1 … y_H)

    Prompts x are drawn uniformly. An episode has H steps and is terminated, never
    truncated; its undiscounted return is the reward. Observations are the state's
    number, [] int32; `decode` gives the tokens.

    Raises:
      TypeError: `reward` is not callable.
      ValueError: a size is too small, the reward is for others, or an int32 can not
        number the states.

    Source: generation as a token-level MDP, Ramamurthy et al. (2022),
      arXiv:2210.01241.
    """

    reward: Any
    """Function of (prompt [] int32, tokens [H] int32) that returns a floating scalar: a
    pytree such as those of `rljax.rewards`, whose leaves can be swept, or a plain
    function."""
    vocabulary_size: int = struct.static(default=8)
    """V, 2 or more."""
    horizon: int = struct.static(default=4)
    """H, 1 or more."""
    num_prompts: int = struct.static(default=1)

    def __post_init__(self):
        struct.check_ints(self, "vocabulary_size", minimum=2)
        struct.check_ints(self, "horizon", "num_prompts", minimum=1)
        if not callable(self.reward):
            raise TypeError(
                "TokenMDP.reward must be a function of (prompt, tokens), got "
                f"{self.reward!r}."
            )
        reward: Any = self.reward
        if jax.tree_util.all_leaves([reward]):
            object.__setattr__(self, "reward", RewardFunction(reward))
        check_sizes = getattr(self.reward, "check_sizes", None)
        if check_sizes is not None:
            check_sizes(self.vocabulary_size, self.horizon, self.num_prompts)
        if self.num_prompts * self.num_prefixes >= 2**31:
            raise ValueError(
                f"TokenMDP has {self.num_prompts * self.num_prefixes:,} states, more "
                "than an int32 can number. Lower vocabulary_size, horizon or "
                "num_prompts."
            )

    @property
    def num_prefixes(self) -> int:
        """N, the empty one and the whole sequences included."""
        return sequences.num_shorter(self.vocabulary_size, self.horizon + 1)

    @property
    def observation_space(self) -> spaces.Discrete:
        """The states."""
        return spaces.Discrete(self.num_prompts * self.num_prefixes)

    @property
    def action_space(self) -> spaces.Discrete:
        """The vocabulary."""
        return spaces.Discrete(self.vocabulary_size)

    def reset(self, key: jax.Array) -> tuple[TokenState, jax.Array]:
        """Draws a prompt; nothing is written yet."""
        prompt = jax.random.randint(key, (), 0, self.num_prompts, jnp.int32)
        index = prompt * self.num_prefixes
        return TokenState(index, jnp.zeros((), jnp.int32)), index

    def step(
        self, state: TokenState, action: jax.Array, key: jax.Array
    ) -> tuple[TokenState, TimeStep]:
        """Appends a token."""
        return self.advance(state, action, ())

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> tuple[()]:
        """Nothing: writing is deterministic."""
        return ()

    def advance(
        self, state: TokenState, action: jax.Array, noise: Any
    ) -> tuple[TokenState, TimeStep]:
        """`step`, which needs no noise."""
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
        """The prompt, the tokens and their number: see `sequences.decode`."""
        return sequences.decode(index, self.vocabulary_size, self.horizon)

    def sequence_rewards(self) -> jax.Array:
        """[P, V^H] the reward of every whole sequence, in the order of the digits."""
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
        starts = indices % self.num_prefixes == 0
        return MDP(
            transitions=transitions,
            rewards=jnp.where(ended, 0, outcomes.reward),
            terminal=terminal,
            initial=starts / self.num_prompts,
        )
