"""Random keys with the words of `jax.random`, which a CPU draws faster.

JAX's default generator is threefry. On a CPU its twenty rounds are compiled as a loop
over arrays, which is slow where only a few words are drawn at a time, as in the body of
a scan. Here the rounds are written out, so that they compile to straight code. `key`
makes a key of this kind, and `unrolled` turns an ordinary key into one. All functions
of `jax.random` but `poisson` take such keys and draw the same bits as from the ordinary
key of the same seed. The library draws its own words in this way from any threefry
key; to environments and agents it hands on keys of the kind that it was given.

Source: Salmon et al. (2011), Parallel Random Numbers: As Easy as 1, 2, 3.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import random as extend

from rljax import checks

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_ORDINARY = "threefry2x32"


def key(seed: jax.typing.ArrayLike) -> jax.Array:
    """A typed key with the words of `jax.random.key(seed)`, drawn faster.

    Keys of the two kinds don't mix in one array or one loop's state: `unrolled` turns
    ordinary ones into this kind, `jax.random.wrap_key_data(jax.random.key_data(key))`
    does the reverse. The words are those under JAX's default setting,
    jax_threefry_partitionable=True, whatever the setting is.

    Args:
      seed: integer.

    Returns:
      [] key.

    Raises:
      TypeError: `seed` is no integer scalar.
    """
    if not isinstance(seed, int):
        checks.integers(seed=seed)
    return jax.random.key(seed, impl=_UNROLLED)


def unrolled(key: jax.Array) -> jax.Array:
    """Keys of the kind that `key` makes, from ordinary ones.

    Args:
      key: [...] typed, or [..., 2] legacy.

    Returns:
      [...] typed keys with the same words. Unchanged where `key` is not of threefry or
      jax_threefry_partitionable is off, as `jax.random` would draw other words.
    """
    checks.random_keys(key)
    if not isinstance(key, jax.Array):
        return key
    if not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
        return key
    if is_typed_key(key):
        if str(jax.random.key_impl(key)) != _ORDINARY:
            return key
        key = jax.random.key_data(key)
    elif jax.config.jax_default_prng_impl != _ORDINARY:  # pyright: ignore[reportAttributeAccessIssue]
        return key
    return jax.random.wrap_key_data(key, impl=_UNROLLED)


def split(key: jax.Array, num: int | tuple[int, ...] = 2) -> jax.Array:
    """The keys of `jax.random.split`, of the kind of `key`, but drawn `unrolled`.

    Args:
      key: random key, typed or legacy.
      num: number of keys, or their shape.

    Returns:
      [num] or [*num] keys.
    """
    keys = jax.random.split(unrolled(key), num)
    if is_typed_key(keys) and keys.dtype != key.dtype:
        keys = jax.random.key_data(keys)
        if is_typed_key(key):
            keys = jax.random.wrap_key_data(keys, impl=jax.random.key_impl(key))
    return keys


def keys(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Keys [*shape]; for the shape () the key itself."""
    return split(key, shape) if shape else key


def uniform(
    key: jax.Array, shape: tuple[int, ...] = (), dtype: Any = float
) -> jax.Array:
    """Uniform numbers in [0, 1) that are fine enough to decide rare events.

    The float32 numbers of `jax.random.uniform` are multiples of 2⁻²³. An event of
    probability p, drawn as u < p, then happens with p rounded up to such a multiple,
    and u/p takes few values. Here a second word, which threefry draws together with the
    first, fills in what lies between: the steps near 0 are 2⁻⁴⁶. With a threefry key
    the numbers are those of `jax.random.uniform` plus something below 2⁻²³. In float64
    they are `jax.random.uniform`'s own, whose steps are 2⁻⁵².

    Args:
      key: random key.
      shape: of the result.
      dtype: float32 or float64; `float` is JAX's default.

    Returns:
      [*shape] of that dtype.
    """
    dtype = jnp.result_type(dtype)
    if dtype.itemsize == 8:
        return jax.random.uniform(unrolled(key), shape, dtype)
    coarse, fine = (_unit_interval(words) for words in _two_words(key, shape))
    # The sum may round up to 1. The largest number below 1 is 1 − 2⁻²⁴.
    return jnp.minimum(coarse + fine * 2.0**-23, 1 - 2.0**-24)


def normal(key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
    """Standard normal numbers: `jax.random.normal` with the key `unrolled`."""
    return jax.random.normal(unrolled(key), shape)


def below(key: jax.Array, number: int) -> jax.Array:
    """A uniform integer in [0, number), from one word.

    It is the word's remainder. `jax.random.randint` draws two words, which matters
    where resets happen within a rollout. Probabilities are right to a share of
    number / 2³², so `number` is at most 2¹⁶.

    Args:
      key: random key.
      number: of the integers, from 1 to 65,536.

    Returns:
      [] int32.

    Raises:
      TypeError, ValueError: `number` is no Python integer in that range.
    """
    number = checks.integer("number", number, minimum=1, maximum=2**16)
    word = jax.random.bits(unrolled(key), (), jnp.uint32)
    return once((word % jnp.uint32(number)).astype(jnp.int32))


def coins(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Fair coins, 32 of them from each random word.

    Args:
      key: random key.
      shape: of the result, of one axis or more. Words are drawn for the last one, so
        that shape[-1] of 32 or less takes one for each of the others.

    Returns:
      [*shape] bool.

    Raises:
      ValueError: `shape` is (), which has no last axis.
    """
    if not shape:
        raise ValueError("shape must have an axis or more, got (): draw (1,) coins.")
    *outer, number = shape
    words = jax.random.bits(unrolled(key), (*outer, -(-number // 32)), jnp.uint32)
    # XLA would draw a word again for each of its bits.
    words = jnp.expand_dims(once(words), -1)
    places = jax.lax.broadcasted_iota(jnp.uint32, (*words.shape[:-1], 32), len(shape))
    bits = ((words >> places) & jnp.uint32(1)).reshape(*outer, -1)
    return bits[..., :number] == 1


def permutation(key: jax.Array, size: int) -> jax.Array:
    """A random order of 0 … size − 1, from one sort of single words.

    Above a size of 1,024 it is `jax.random.permutation`. Up to there, each index is
    stored in the lowest bits of a random word, and the words are sorted. Words that
    agree in their other bits would always end in the order of their indices; so the
    indices are first combined by XOR with one random mask, which makes either order of
    two such words as probable. All orders are equally probable unless two pairs of
    words agree, which happens 7 times in 1,000 at size 1,024 and less often below.

    Args:
      key: random key.
      size: number of elements.

    Returns:
      [size] int32.

    Raises:
      TypeError, ValueError: `size` is no Python integer of 0 or more.
    """
    size = checks.integer("size", size, minimum=0)
    index_bits = max(size - 1, 0).bit_length()
    if index_bits > 10:
        return jax.random.permutation(unrolled(key), size)
    words = once(jax.random.bits(unrolled(key), (size + 1,))).astype(jnp.uint32)
    low = jnp.uint32(2**index_bits - 1)
    mask = words[size] & low
    indices = jax.lax.iota(jnp.uint32, size) ^ mask
    return ((jnp.sort((words[:size] & ~low) | indices) & low) ^ mask).astype(jnp.int32)


def once(x: jax.typing.ArrayLike) -> jax.Array:
    """`x` itself, but XLA computes it only once however many uses it has.

    It is meant for a drawn number that has several uses, as in a reset's state and its
    observation. XLA copies cheap operations into every kernel that uses their result,
    and each such kernel then draws the random words again. Operations that XLA takes
    for expensive, such as a division, are not copied. So `x` is divided by a 1 that XLA
    can't recognise as a constant; on a CPU the compiler after it, LLVM, can, and
    removes the division.

    Args:
      x: [...] integer or floating.

    Returns:
      [...] the same numbers; only outside of jit subnormal ones may become 0.

    Raises:
      TypeError: another dtype.
    """
    x = jnp.asarray(x)
    if not any(jnp.issubdtype(x.dtype, kind) for kind in (jnp.integer, jnp.floating)):
        raise TypeError(f"x must be integer or floating, got {x.dtype}.")
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    one = (bits | bits.dtype.type(1)) != 0
    return jax.lax.div(x, one.astype(x.dtype))


def is_typed_key(x: Any) -> bool:
    """Whether an array, or what has its dtype, holds typed random keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _threefry(
    key: jax.Array, high: jax.Array, low: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32, 20 rounds: two words [...] of the counters (high, low), [...]."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    first, second = high + keys[0], low + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            first = first + second
            left = second << jnp.uint32(rotation)
            second = first ^ (left | (second >> jnp.uint32(32 - rotation)))
        first = first + keys[(group + 1) % 3]
        second = second + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return first, second


def _two_words(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Two independent words each [*shape]; of threefry, the first is jax.random's."""
    key = unrolled(key)
    is_threefry = is_typed_key(key) and jax.random.key_impl(key) == _UNROLLED
    if not is_threefry or math.prod(shape) >= 2**32:
        words = jax.random.bits(key, (2, *shape), jnp.uint32)
        return words[0], words[1]
    first, second = _counted(jax.random.key_data(key), shape)
    return first ^ second, second


def _unit_interval(words: jax.Array) -> jax.Array:
    """float32 numbers in [0, 1) from the 23 highest bits of each word.

    The bits become the fraction of a number in [1, 2), from which 1 is subtracted. On a
    CPU that is faster than to convert an unsigned integer.
    """
    bits = (words >> jnp.uint32(9)) | jnp.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(bits, jnp.float32) - 1


def _counted(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The words of the counters 0, 1, …, of both [*shape]."""
    low = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _threefry(key, jnp.zeros_like(low), low)


def _seed(seed: jax.Array) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed, impl=_ORDINARY))


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if math.prod(shape) >= 2**32:
        return jax.random.key_data(jax.random.split(_ordinary(key), shape))
    # The halves apart: one kernel for both, word by word, can't use vector registers.
    first, second = _counted(key, shape)
    return jnp.stack([once(first), once(second)], axis=-1)


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    dtype = jnp.dtype(f"uint{bit_width}")
    if math.prod(shape) >= 2**32:
        return jax.random.bits(_ordinary(key), shape, dtype)
    first, second = _counted(key, shape)
    if bit_width == 64:
        return (first.astype(dtype) << dtype.type(32)) | second.astype(dtype)
    return (first ^ second).astype(dtype)


def _fold_in(key: jax.Array, data: jax.typing.ArrayLike) -> jax.Array:
    low = jnp.asarray(data, jnp.uint32)
    return jnp.stack(_threefry(key, jnp.zeros_like(low), low))


def _ordinary(key: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(key, impl=_ORDINARY)


def words_depend_on_batch(key: jax.Array) -> bool:
    """Whether the words that vmap draws from a key are others than of the key alone.

    So it is with JAX's "rbg" and "unsafe_rbg" keys.
    """
    if is_typed_key(key):
        return "rbg" in str(jax.random.key_impl(key))
    return key.shape[-1:] == (4,)


_UNROLLED = extend.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_unrolled",
    tag="fry_unrolled",
)
