"""Small causal networks on token sequences, as `init`/`apply` pairs.

Each maps the number of a prefix (see `rljax.sequences`), which is what `TokenMDP`
shows, to logits of the next token, or with `outputs` to as many numbers: 1 for a critic
or a reward model. They are static and hashable, as an agent's `network` must be:

    rljax.RLOO(network=rljax.causal.Transformer(vocabulary_size=8, horizon=4))

A prefix is read anew for every token, which is fit for horizons of some tens.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import networks, sequences, struct
from rljax.networks import Dense


@dataclasses.dataclass(frozen=True)
class _Causal:
    vocabulary_size: int
    """V."""
    horizon: int
    """H."""
    num_prompts: int = 1
    """P."""
    outputs: int | None = None
    """Numbers returned; None: V logits."""

    def __post_init__(self):
        struct.check_ints(self, "vocabulary_size", minimum=2)
        struct.check_ints(self, "horizon", "num_prompts", minimum=1)
        if self.outputs is not None:
            struct.check_ints(self, "outputs", minimum=1)

    @property
    def num_observations(self) -> int:
        """The prefixes that it can read; agents hold it against the environment."""
        size = sequences.num_shorter(self.vocabulary_size, self.horizon + 1)
        return self.num_prompts * size

    @property
    def _num_outputs(self) -> int:
        return self.vocabulary_size if self.outputs is None else self.outputs

    def _decode(self, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return sequences.decode(index, self.vocabulary_size, self.horizon)


@dataclasses.dataclass(frozen=True)
class Table(_Causal):
    """A row of numbers for each prefix that is not finished, all 0 at first.

    Nothing is shared between prefixes: what is learned of one says nothing of another.
    A finished prefix has no row; for it the output is 0, as it is not to be asked for.
    """

    def init(self, key: jax.Array, obs: Any) -> jax.Array:
        """[P, U, outputs] zeros: a uniform policy."""
        rows = sequences.num_shorter(self.vocabulary_size, self.horizon)
        shape = (self.num_prompts, rows, self._num_outputs)
        return jnp.zeros(shape, jnp.result_type(float))

    def apply(self, params: jax.Array, obs: jax.Array) -> jax.Array:
        """The prefix's row, [outputs]."""
        count = sequences.num_shorter(self.vocabulary_size, self.horizon + 1)
        prompt, prefix = jnp.divmod(obs, count)
        return params.at[prompt, prefix].get(mode="fill", fill_value=0)


@dataclasses.dataclass(frozen=True)
class MLP(_Causal):
    """A multilayer perceptron on the tokens so far and the prompt, all one-hot."""

    hidden_sizes: tuple[int, ...] = (64,)
    """Widths of the hidden layers."""
    activation: str = "relu"
    """A key of `networks.ACTIVATIONS`."""

    def __post_init__(self):
        super().__post_init__()
        struct.check_sizes(self, "hidden_sizes")
        struct.check_choice(self, "activation", networks.ACTIVATIONS)

    def init(self, key: jax.Array, obs: Any) -> tuple[Dense, ...]:
        """Orthogonal layers, the last one small: a policy that is almost uniform."""
        inputs = self.horizon * self.vocabulary_size + self.num_prompts
        return networks.mlp_init(
            (inputs, *self.hidden_sizes, self._num_outputs),
            key,
            initialization="orthogonal",
            output_scale=0.01,
        )

    def apply(self, params: tuple[Dense, ...], obs: jax.Array) -> jax.Array:
        """[outputs]."""
        prompt, tokens, length = self._decode(obs)
        # A row of zeros is a place without a token.
        places = jnp.where(jnp.arange(self.horizon) < length, tokens, -1)
        features = jnp.concatenate(
            [
                jax.nn.one_hot(places, self.vocabulary_size).ravel(),
                jax.nn.one_hot(prompt, self.num_prompts),
            ]
        )
        return networks.mlp_apply(params, features, self.activation)


class Block(NamedTuple):
    """Parameters of one transformer block; D is the width."""

    query_key_value: Dense
    """[D, 3 D]."""
    project: Dense
    """[D, D]."""
    expand: Dense
    """[D, 4 D]."""
    contract: Dense
    """[4 D, D]."""


class TransformerParams(NamedTuple):
    """Parameters of a transformer."""

    prompts: jax.Array
    """[P, D] embeddings, the first element of each sequence."""
    tokens: jax.Array
    """[V, D] embeddings."""
    places: jax.Array
    """[H + 1, D] embeddings."""
    blocks: tuple[Block, ...]
    output: Dense
    """[D, outputs]."""


@dataclasses.dataclass(frozen=True)
class Transformer(_Causal):
    """A decoder-only transformer: causal attention and ReLU layers behind norms.

        x ← x + W_p · attention(norm(x)),   x ← x + W_c · relu(W_e · norm(x))

    The prompt is the first element, the output is read at the last token. Norms have
    no parameters of their own.

    Source: Vaswani et al. (2017), arXiv:1706.03762, with the norms before the layers
      as in Xiong et al. (2020), arXiv:2002.04745.
    """

    width: int = 32
    """D, a multiple of num_heads."""
    num_heads: int = 2
    num_blocks: int = 1

    def __post_init__(self):
        super().__post_init__()
        struct.check_ints(self, "width", "num_heads", "num_blocks", minimum=1)
        if self.width % self.num_heads:
            raise ValueError(
                f"Transformer.width must be a multiple of num_heads = "
                f"{self.num_heads}, got {self.width}."
            )

    def init(self, key: jax.Array, obs: Any) -> TransformerParams:
        """He-normal layers, the last one small: a policy that is almost uniform."""
        width = self.width
        key_embed, key_output, key_blocks = jax.random.split(key, 3)
        sizes = (self.num_prompts, self.vocabulary_size, self.horizon + 1)
        prompts, tokens, places = (
            jax.random.normal(k, (size, width), jnp.result_type(float))
            for k, size in zip(jax.random.split(key_embed, 3), sizes, strict=True)
        )
        blocks = []
        for key_block in jax.random.split(key_blocks, self.num_blocks):
            keys = jax.random.split(key_block, 4)
            blocks.append(
                Block(
                    networks.he_normal(width, 3 * width, keys[0]),
                    networks.he_normal(width, width, keys[1]),
                    networks.he_normal(width, 4 * width, keys[2]),
                    networks.he_normal(4 * width, width, keys[3]),
                )
            )
        output = networks.orthogonal(width, self._num_outputs, 0.01, key_output)
        return TransformerParams(prompts, tokens, places, tuple(blocks), output)

    def apply(self, params: TransformerParams, obs: jax.Array) -> jax.Array:
        """[outputs]."""
        prompt, tokens, length = self._decode(obs)
        embedded = jnp.concatenate(
            [params.prompts[prompt][None], params.tokens[tokens]]
        )
        x = embedded + params.places
        for block in params.blocks:
            x = x + _affine(block.project, self._attend(block, _norm(x)))
            hidden = jax.nn.relu(_affine(block.expand, _norm(x)))
            x = x + _affine(block.contract, hidden)
        return _affine(params.output, _norm(x)[length])

    def _attend(self, block: Block, x: jax.Array) -> jax.Array:
        """Causal attention of [H + 1, D], heads side by side."""
        split = _affine(block.query_key_value, x)
        query, key, value = jnp.moveaxis(
            split.reshape(len(x), 3, self.num_heads, -1), (1, 2), (0, 1)
        )
        scores = query @ jnp.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
        seen = jnp.tril(jnp.ones((len(x), len(x)), bool))
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return jnp.moveaxis(weights @ value, 0, 1).reshape(x.shape)


def _affine(layer: Dense, x: jax.Array) -> jax.Array:
    return x @ layer.kernel + layer.bias


def _norm(x: jax.Array) -> jax.Array:
    """Mean 0 and variance 1 over the last axis."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + 1e-6)
