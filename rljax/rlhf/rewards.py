"""Rewards of finished token sequences, for `TokenMDP`.

A reward is a pytree that is called with (prompt [] int32, tokens [H] int32) and returns
a floating scalar. Its arrays are leaves: they can be swept, differentiated and trained.
To write your own, use a plain function, or a class with `__call__` that is decorated
with `rljax.struct.dataclass`; if derived from `Reward`, it can also refuse environments
of other sizes. Shape letters: P prompts, V tokens of the vocabulary, H tokens of a
sequence.
"""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rljax import struct
from rljax.rlhf import sequences
from rljax.rlhf.networks import CausalNetwork


class Reward(abc.ABC):
    """A reward of finished sequences: a pytree that can be called."""

    @abc.abstractmethod
    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """r(x, y), [] floating, of a prompt [] int32 and its tokens [H] int32."""

    def check_sizes(self, sizes: sequences.Sizes) -> None:
        """Raises ValueError if the sizes do not fit the reward. Default: all fit."""
        del sizes


@struct.dataclass
class RewardFunction(Reward):
    """A reward without parameters, from a plain function of (prompt, tokens)."""

    function: Callable[[jax.Array, jax.Array], jax.Array] = struct.static()

    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """The value of the function."""
        return self.function(prompt, tokens)


@struct.dataclass
class TableReward(Reward):
    """A table that holds a separate reward for each sequence of each prompt."""

    table: jax.Array
    """[P, V^H] floating; sequences in the order of `sequences.code`."""
    vocabulary_size: int = struct.static()

    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """The sequence's entry."""
        return self.table[prompt, sequences.code(tokens, self.vocabulary_size)]

    def check_sizes(self, sizes: sequences.Sizes) -> None:
        """Raises ValueError unless the sizes fit the reward."""
        vocabulary_size, horizon, num_prompts = sizes
        if self.vocabulary_size != vocabulary_size:
            raise ValueError(
                f"TableReward.vocabulary_size must be the environment's, "
                f"{vocabulary_size}, got {self.vocabulary_size}."
            )
        _check_shape(self, "table", (num_prompts, vocabulary_size**horizon))

    @classmethod
    def random(
        cls, vocabulary_size: int, horizon: int, key: jax.Array, *, num_prompts: int = 1
    ) -> "TableReward":
        """A table of independent N(0, 1) entries."""
        shape = (num_prompts, vocabulary_size**horizon)
        return cls(jax.random.normal(key, shape), vocabulary_size)


@struct.dataclass
class TargetReward(Reward):
    """The share of tokens that agree with the prompt's target sequence, in [0, 1]."""

    target: jax.Array
    """[P, H] integer: the target sequence of each prompt."""

    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """Mean over positions of 1[y_h = target_h]."""
        return jnp.mean(tokens == self.target[prompt], dtype=jnp.result_type(float))

    def check_sizes(self, sizes: sequences.Sizes) -> None:
        """Raises ValueError unless the sizes fit the reward."""
        _check_shape(self, "target", (sizes.num_prompts, sizes.horizon))


@struct.dataclass
class BigramReward(Reward):
    """r(x, y) = a[x, y_1] + Σ_{h>1} b[y_{h−1}, y_h]: pairs of neighbours are scored."""

    first: jax.Array
    """[P, V] floating, a."""
    pairs: jax.Array
    """[V, V] floating, b."""

    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """The sum of the scores."""
        return self.first[prompt, tokens[0]] + jnp.sum(
            self.pairs[tokens[:-1], tokens[1:]]
        )

    def check_sizes(self, sizes: sequences.Sizes) -> None:
        """Raises ValueError unless the sizes fit the reward."""
        _check_shape(self, "first", (sizes.num_prompts, sizes.vocabulary_size))
        _check_shape(self, "pairs", (sizes.vocabulary_size,) * 2)

    @classmethod
    def random(
        cls, vocabulary_size: int, horizon: int, key: jax.Array, *, num_prompts: int = 1
    ) -> "BigramReward":
        """Independent N(0, 1/H) scores, so that a reward has a variance of about 1."""
        key_first, key_pairs = jax.random.split(key)
        scale = horizon**-0.5
        return cls(
            scale * jax.random.normal(key_first, (num_prompts, vocabulary_size)),
            scale * jax.random.normal(key_pairs, (vocabulary_size, vocabulary_size)),
        )


@struct.dataclass
class RewardModel(Reward):
    """A learned r(x, y): a causal network's only output for the finished sequence.

    `rljax.rlhf.preferences.fit_reward_model` trains one from pairwise preferences.
    """

    params: Any
    """The network's parameters."""
    network: Any = struct.static()
    """One of `rljax.rlhf.networks` with `outputs=1`, or another whose
    `apply(params, index)` returns [1] and whose `vocabulary_size` is V."""

    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """r(x, y)."""
        index = sequences.finished(prompt, tokens, self.network.vocabulary_size)
        return self.network.apply(self.params, index).squeeze(-1)

    def check_sizes(self, sizes: sequences.Sizes) -> None:
        """Raises ValueError unless the sizes are those of the network."""
        network = self.network
        if isinstance(network, CausalNetwork) and network.sizes != sizes:
            raise ValueError(
                "RewardModel.network must be for the environment's "
                f"{sizes._asdict()}, got {network!r}."
            )


def _check_shape(reward: Any, name: str, shape: tuple[int, ...]) -> None:
    """Checks the last axes only: there may be more in front, for vmap."""
    found = jnp.shape(getattr(reward, name))
    if found[-len(shape) :] != shape:
        raise ValueError(
            f"{type(reward).__name__}.{name} must have shape {list(shape)} in this "
            f"environment, has {list(found)}."
        )
