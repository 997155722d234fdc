"""Rewards of finished token sequences, for `TokenMDP`.

A reward is a pytree that is called with (prompt [] int32, tokens [H] int32) and returns
a floating scalar. Its arrays are leaves: they can be swept, differentiated and trained.
One of your own is a class under `rljax.struct.dataclass` with `__call__`, or a plain
function. `check_sizes`, if it has that, is called by TokenMDP with its V, H and P.
Shape letters: P prompts, V tokens of the vocabulary, H tokens of a sequence.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rljax import sequences, struct


@struct.dataclass
class RewardFunction:
    """A plain function of (prompt, tokens) as a reward without parameters."""

    function: Callable[[jax.Array, jax.Array], jax.Array] = struct.static()

    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """Its value."""
        return self.function(prompt, tokens)


@struct.dataclass
class TableReward:
    """A number for each sequence of each prompt: nothing to generalise from."""

    table: jax.Array
    """[P, V^H] floating; sequences in the order of their digits."""
    vocabulary_size: int = struct.static()

    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """The sequence's entry."""
        return self.table[prompt, sequences.code(tokens, self.vocabulary_size)]

    def check_sizes(self, vocabulary_size: int, horizon: int, num_prompts: int) -> None:
        """Raises ValueError unless it is for these sizes."""
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
        """Independent N(0, 1) entries."""
        shape = (num_prompts, vocabulary_size**horizon)
        return cls(jax.random.normal(key, shape), vocabulary_size)


@struct.dataclass
class TargetReward:
    """The share of tokens that are those of the prompt's target sequence, in [0, 1]."""

    target: jax.Array
    """[P, H] integer."""

    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """Mean over positions of 1[y_h = target_h]."""
        return jnp.mean(tokens == self.target[prompt], dtype=jnp.result_type(float))

    def check_sizes(self, vocabulary_size: int, horizon: int, num_prompts: int) -> None:
        """Raises ValueError unless it is for these sizes."""
        _check_shape(self, "target", (num_prompts, horizon))


@struct.dataclass
class BigramReward:
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

    def check_sizes(self, vocabulary_size: int, horizon: int, num_prompts: int) -> None:
        """Raises ValueError unless it is for these sizes."""
        _check_shape(self, "first", (num_prompts, vocabulary_size))
        _check_shape(self, "pairs", (vocabulary_size, vocabulary_size))

    @classmethod
    def random(
        cls, vocabulary_size: int, horizon: int, key: jax.Array, *, num_prompts: int = 1
    ) -> "BigramReward":
        """Independent N(0, 1/H) scores: rewards of a prompt have variance 1, about."""
        key_first, key_pairs = jax.random.split(key)
        scale = horizon**-0.5
        return cls(
            scale * jax.random.normal(key_first, (num_prompts, vocabulary_size)),
            scale * jax.random.normal(key_pairs, (vocabulary_size, vocabulary_size)),
        )


@struct.dataclass
class RewardModel:
    """A learned r(x, y): a causal network's one output for the finished sequence.

    `rljax.preferences.fit_reward_model` trains one from pairwise preferences.
    """

    params: Any
    """The network's parameters."""
    network: Any = struct.static()
    """One of `rljax.causal`'s with `outputs=1`, or the like: `apply(params, index)` is
    [1] and `vocabulary_size` says what the numbers of prefixes mean."""

    def __call__(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """r(x, y)."""
        index = sequences.finished(prompt, tokens, self.network.vocabulary_size)
        return self.network.apply(self.params, index).squeeze(-1)

    def check_sizes(self, vocabulary_size: int, horizon: int, num_prompts: int) -> None:
        """Raises ValueError unless the network is for these sizes."""
        names = ("vocabulary_size", "horizon", "num_prompts")
        wanted = (vocabulary_size, horizon, num_prompts)
        own = tuple(getattr(self.network, name, None) for name in names)
        if any(a not in (None, b) for a, b in zip(own, wanted, strict=True)):
            raise ValueError(
                "RewardModel.network must be for the environment's "
                f"{dict(zip(names, wanted, strict=True))}, got {self.network!r}."
            )


def _check_shape(reward: Any, name: str, shape: tuple[int, ...]) -> None:
    """The last axes alone: more in front are for vmap."""
    found = jnp.shape(getattr(reward, name))
    if found[-len(shape) :] != shape:
        raise ValueError(
            f"{type(reward).__name__}.{name} must have shape {list(shape)} in this "
            f"environment, has {list(found)}."
        )
