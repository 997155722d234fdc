"""Small causal networks on token sequences, as `init`/`apply` pairs.

Each maps the number of a prefix (see `rljax.rlhf.sequences`), the observation of a
`TokenMDP`, to the logits of the next token. With `outputs` it returns that many numbers
instead: 1 for a critic or a reward model. The networks are static and hashable, as an
agent's `network` must be:

    rljax.RLOO(network=rljax.rlhf.networks.Transformer(vocabulary_size=8, horizon=4))

The whole prefix is read again for every token, so keep to horizons of some tens.
"""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, networks, spaces
from rljax.networks import Dense, SizedNetwork
from rljax.rlhf import sequences


@dataclasses.dataclass(frozen=True)
class CausalNetwork(SizedNetwork):
    """The base of these networks: their sizes, and how they read a prefix. Abstract."""

    vocabulary_size: int
    """V, the number of different tokens."""
    horizon: int
    """H, the number of tokens in a whole sequence."""
    num_prompts: int = 1
    """P, the number of prompts."""
    outputs: int | None = None
    """How many numbers are returned; None: V logits."""

    def __post_init__(self):
        checks.ints(self, "vocabulary_size", minimum=2)
        checks.ints(self, "horizon", "num_prompts", minimum=1)
        if self.outputs is not None:
            checks.ints(self, "outputs", minimum=1)

    @property
    def sizes(self) -> sequences.Sizes:
        """V, H and P, which must be those of the environment."""
        return sequences.Sizes(self.vocabulary_size, self.horizon, self.num_prompts)

    def check_observations(self, space: spaces.Space, label: str) -> None:
        """Raises ValueError unless the space is Discrete with one number per prefix."""
        size = self.num_prompts * self.sizes.num_prefixes
        if not isinstance(space, spaces.Discrete) or space.n != size:
            raise ValueError(
                f"{label} reads {size} different observations, but the environment has "
                f"{space}: build {self!r} with the environment's sizes."
            )

    @abc.abstractmethod
    def init(self, key: jax.Array, obs: Any) -> Any:
        """The initial parameters; `obs` is not used."""

    @abc.abstractmethod
    def apply(self, params: Any, obs: jax.Array) -> jax.Array:
        """The output, [outputs], for the number of a prefix, [] int32."""

    @property
    def _num_outputs(self) -> int:
        return self.vocabulary_size if self.outputs is None else self.outputs

    def _decode(self, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return sequences.decode(index, self.vocabulary_size, self.horizon)


@dataclasses.dataclass(frozen=True)
class Table(CausalNetwork):
    """A row of numbers for each unfinished prefix, all 0 at first.

    Prefixes share no parameters, so what is learned for one does not carry over to
    others. Finished prefixes have no row, as no token follows: their output is 0.
    """

    def init(self, key: jax.Array, obs: Any) -> jax.Array:
        """Zeros [P, U, outputs], a uniform policy; each prompt has U unfinished
        prefixes."""
        rows = sequences.num_shorter(self.vocabulary_size, self.horizon)
        shape = (self.num_prompts, rows, self._num_outputs)
        return jnp.zeros(shape, jnp.result_type(float))

    def apply(self, params: jax.Array, obs: jax.Array) -> jax.Array:
        """The prefix's row, [outputs]."""
        prompt, prefix = jnp.divmod(obs, self.sizes.num_prefixes)
        return params.at[prompt, prefix].get(mode="fill", fill_value=0)


@dataclasses.dataclass(frozen=True)
class MLP(CausalNetwork):
    """A multilayer perceptron on the tokens so far and the prompt, all one-hot."""

    hidden_sizes: tuple[int, ...] = (64,)
    """Widths of the hidden layers."""
    activation: str = "relu"
    """A key of `rljax.networks.ACTIVATIONS`."""

    def __post_init__(self):
        super().__post_init__()
        checks.sizes(self, "hidden_sizes")
        checks.choice(self, "activation", networks.ACTIVATIONS)

    def init(self, key: jax.Array, obs: Any) -> tuple[Dense, ...]:
        """Orthogonal layers; the last is small, so the policy is almost uniform."""
        inputs = self.horizon * self.vocabulary_size + self.num_prompts
        return networks.mlp_init(
            (inputs, *self.hidden_sizes, self._num_outputs),
            key,
            initialization="orthogonal",
            output_scale=0.01,
        )

    def apply(self, params: tuple[Dense, ...], obs: jax.Array) -> jax.Array:
        """The output, [outputs]."""
        prompt, tokens, length = self._decode(obs)
        # A place without a token is −1, which one_hot turns into a row of zeros.
        places = jnp.arange(self.horizon, dtype=length.dtype)
        places = jnp.where(places < length, tokens, -1)
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
    """[P, D] embeddings of the prompts; a prompt is the first element of a sequence."""
    tokens: jax.Array
    """[V, D] embeddings of the tokens."""
    places: jax.Array
    """[H + 1, D] embeddings of the places in a sequence; row 0 is for the prompt."""
    blocks: tuple[Block, ...]
    output: Dense
    """[D, outputs]."""


@dataclasses.dataclass(frozen=True)
class Transformer(CausalNetwork):
    """A decoder-only transformer, with a norm before each attention and ReLU layer.

        x ← x + W_p · attention(norm(x)),   x ← x + W_c · relu(W_e · norm(x))

    The prompt is the first element, and the output is read at the last element of the
    prefix. The norms have no parameters.

    Source: Vaswani et al. (2017), arXiv:1706.03762, with the norms before the layers
      as in Xiong et al. (2020), arXiv:2002.04745.
    """

    width: int = 32
    """D, a multiple of num_heads."""
    num_heads: int = 2
    num_blocks: int = 1

    def __post_init__(self):
        super().__post_init__()
        checks.ints(self, "width", "num_heads", "num_blocks", minimum=1)
        if self.width % self.num_heads:
            raise ValueError(
                f"Transformer.width must be a multiple of num_heads = "
                f"{self.num_heads}, got {self.width}."
            )

    def init(self, key: jax.Array, obs: Any) -> TransformerParams:
        """He-normal layers; the last is small, so the policy is almost uniform."""
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
        """The output, [outputs]."""
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
        """Causal attention over a sequence [H + 1, D]; the heads are concatenated."""
        split = _affine(block.query_key_value, x)
        query, key, value = jnp.moveaxis(
            split.reshape(len(x), 3, self.num_heads, -1), (1, 2), (0, 1)
        )
        scores = query @ jnp.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
        seen = jnp.tril(jnp.ones((len(x), len(x)), bool))
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return jnp.moveaxis(weights @ value, 0, 1).reshape(x.shape)


@dataclasses.dataclass(frozen=True)
class Pair(SizedNetwork):
    """Joins two networks into one that returns (logits [A], value []), as PPO needs."""

    actor: networks.Network
    """Returns the logits, [A]."""
    critic: networks.Network
    """Returns the value, [1]."""

    def check_observations(self, space: spaces.Space, label: str) -> None:
        """Checks the space for each of the two that is a `SizedNetwork`."""
        for network in (self.actor, self.critic):
            if isinstance(network, SizedNetwork):
                network.check_observations(space, label)

    def init(self, key: jax.Array, obs: Any) -> tuple[Any, Any]:
        """The initial parameters of both."""
        key_actor, key_critic = jax.random.split(key)
        return self.actor.init(key_actor, obs), self.critic.init(key_critic, obs)

    def apply(self, params: tuple[Any, Any], obs: Any) -> tuple[jax.Array, jax.Array]:
        """Logits [A] and value [] of one observation.

        Raises:
          ValueError: the critic returns anything but [1].
        """
        actor, critic = params
        value = self.critic.apply(critic, obs)
        if jnp.shape(value) != (1,):
            raise ValueError(
                f"Pair.critic must return one value, [1], returns {jnp.shape(value)}. "
                "Those of rljax.rlhf.networks take outputs=1."
            )
        return self.actor.apply(actor, obs), value.squeeze(-1)


def _affine(layer: Dense, x: jax.Array) -> jax.Array:
    return x @ layer.kernel + jnp.expand_dims(layer.bias, range(x.ndim - 1))


def _norm(x: jax.Array) -> jax.Array:
    """Mean 0 and variance 1 over the last axis."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + 1e-6)
