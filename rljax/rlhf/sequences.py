"""Token sequences: how their prefixes are numbered, and distributions over them.

Shape letters: P prompts, V tokens of the vocabulary, H tokens of a whole sequence. The
prefixes of a prompt are numbered in the order of their lengths. Those of equal length
are ordered by their tokens, read as the digits of a number in base V. So the prefixes
of length h have the V^h numbers from (V^h − 1)/(V − 1) on:

    index(y_1 … y_h) = (V^h − 1)/(V − 1) + Σ_i y_i V^(h−i)

The numbers of prompt x begin at x · N, where N = (V^(H+1) − 1)/(V − 1) is the number of
prefixes of one prompt. Of these, U = (V^H − 1)/(V − 1) are unfinished: shorter than H.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks


class Sizes(NamedTuple):
    """The sizes of a problem, on which networks, rewards and data must agree."""

    vocabulary_size: int
    """V, the number of different tokens."""
    horizon: int
    """H, the number of tokens in a whole sequence."""
    num_prompts: int
    """P, the number of prompts."""

    @property
    def num_prefixes(self) -> int:
        """N, the number of prefixes of one prompt, from the empty to the whole ones."""
        return num_shorter(self.vocabulary_size, self.horizon + 1)


def num_shorter(vocabulary_size: int, length: int) -> int:
    """(V^h − 1)/(V − 1), the number of prefixes that are shorter than h."""
    return (vocabulary_size**length - 1) // (vocabulary_size - 1)


def code(tokens: jax.Array, vocabulary_size: int) -> jax.Array:
    """Σ_i y_i V^(H−i), [] int32: the place of a whole sequence among all of them."""
    weights = vocabulary_size ** np.arange(tokens.shape[-1])[::-1]
    return jnp.sum(tokens * jnp.asarray(weights, jnp.int32), axis=-1, dtype=jnp.int32)


def append(
    index: jax.Array, token: jax.Array, vocabulary_size: int, horizon: int
) -> jax.Array:
    """The number of a prefix with one more token appended.

    With o_h = (V^h − 1)/(V − 1) and c = Σ_i y_i V^(h−i), the prefix has the number
    o_h + c. Appending y gives o_{h+1} + (V c + y) = V (o_h + c) + y + 1.
    """
    count = num_shorter(vocabulary_size, horizon + 1)
    prompt, prefix = jnp.divmod(index, count)
    appended = prefix * vocabulary_size + token + 1
    return (prompt * count + appended).astype(jnp.int32)


def decode(
    index: jax.Array, vocabulary_size: int, horizon: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The prompt, the tokens and how many they are, from the number of a prefix.

    Args:
      index: [] int32.
      vocabulary_size: V.
      horizon: H.

    Returns:
      prompt [] int32; tokens [H] int32, 0 beyond the prefix; length [] int32.
    """
    prompt, prefix = jnp.divmod(index, num_shorter(vocabulary_size, horizon + 1))
    firsts = jnp.asarray(
        [num_shorter(vocabulary_size, h) for h in range(horizon + 1)], jnp.int32
    )
    length = jnp.sum(prefix >= firsts, dtype=jnp.int32) - 1
    number = prefix - firsts[length]  # its place among the prefixes of its length
    # Token i of a prefix of h tokens is the digit of weight V^(h − 1 − i).
    exponents = length - 1 - jnp.arange(horizon, dtype=jnp.int32)
    powers = jnp.asarray(vocabulary_size ** np.arange(horizon), jnp.int32)
    digits = number // powers[jnp.maximum(exponents, 0)] % vocabulary_size
    return prompt, jnp.where(exponents >= 0, digits, 0).astype(jnp.int32), length


def prefixes(prompt: jax.Array, tokens: jax.Array, vocabulary_size: int) -> jax.Array:
    """The numbers of a sequence's prefixes: the observation before each of its tokens.

    Args:
      prompt: [] int32.
      tokens: [H] int32.
      vocabulary_size: V.

    Returns:
      [H] int32, the numbers of the prefixes of 0 … H − 1 tokens.
    """
    horizon = len(tokens)
    index = (prompt * num_shorter(vocabulary_size, horizon + 1)).astype(jnp.int32)
    indices = []
    for token in tokens:
        indices.append(index)
        index = append(index, token, vocabulary_size, horizon)
    return jnp.stack(indices)


def finished(prompt: jax.Array, tokens: jax.Array, vocabulary_size: int) -> jax.Array:
    """The number of a whole sequence, [] int32, from its tokens [H]."""
    horizon = tokens.shape[-1]
    start = prompt * num_shorter(vocabulary_size, horizon + 1)
    first = num_shorter(vocabulary_size, horizon)
    return (start + first + code(tokens, vocabulary_size)).astype(jnp.int32)


def unfinished(vocabulary_size: int, horizon: int, num_prompts: int) -> np.ndarray:
    """[P, U] int32: the numbers of all unfinished prefixes."""
    prompts = np.arange(num_prompts)[:, None] * num_shorter(
        vocabulary_size, horizon + 1
    )
    own = np.arange(num_shorter(vocabulary_size, horizon))
    return (prompts + own).astype(np.int32)


def all_tokens(vocabulary_size: int, horizon: int) -> np.ndarray:
    """[V^H, H] int32: all whole sequences, in the order of `code`."""
    grid = np.indices([vocabulary_size] * horizon).reshape(horizon, -1)
    return grid.T.astype(np.int32)


def sequence_log_probs(log_policy: jax.Array, horizon: int) -> jax.Array:
    """log π(y|x) = Σ_h log π(y_h | x, y_1 … y_{h−1}) of all whole sequences.

    Args:
      log_policy: [..., U, V] log π(y|prefix) in the order of the prefixes' numbers.
      horizon: H.

    Returns:
      [..., V^H], in the order of `code`; of float32 at least.

    Raises:
      ValueError: there are not U = (V^H − 1)/(V − 1) prefixes.
    """
    *batch, rows, vocabulary_size = jnp.shape(log_policy)
    if rows != num_shorter(vocabulary_size, horizon):
        raise ValueError(
            f"log_policy must have {num_shorter(vocabulary_size, horizon)} rows for "
            f"{vocabulary_size} tokens and a horizon of {horizon}, has {rows}."
        )
    (log_policy,) = checks.floating(log_policy=log_policy)
    total = jnp.zeros((*batch, 1), log_policy.dtype)
    # One length is handled after another. The V extensions of a prefix have successive
    # numbers, so flattening [V^h, V] gives the order of the prefixes of length h + 1.
    for h in range(horizon):
        start = num_shorter(vocabulary_size, h)
        level = log_policy[..., start : start + vocabulary_size**h, :]
        total = (total[..., None] + level).reshape(*batch, -1)
    return total
