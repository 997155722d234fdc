"""Multilayer perceptrons, alone and as an actor with a critic."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import random

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}
INITIALIZATIONS = ("orthogonal", "he_normal")


class Dense(NamedTuple):
    """Parameters of an affine layer, y = x·kernel + bias."""

    kernel: jax.Array
    """[inputs, outputs]."""
    bias: jax.Array
    """[outputs]."""


def he_normal(inputs: int, outputs: int, key: jax.Array) -> Dense:
    """Kernel entries N(0, 2 / inputs), biases 0.

    Source: He et al. (2015), arXiv:1502.01852, eq. 10.
    """
    initializer = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    kernel = initializer(
        random.unrolled(key), (inputs, outputs), jnp.result_type(float)
    )
    return Dense(kernel, jnp.zeros_like(kernel, shape=(outputs,)))


def orthogonal(inputs: int, outputs: int, scale: float, key: jax.Array) -> Dense:
    """A uniformly drawn (semi-)orthogonal kernel times `scale`, biases 0.

    Source: Saxe et al. (2014), arXiv:1312.6120.
    """
    (layer,) = orthogonals([(inputs, outputs)], [scale], key[None])
    return layer


def orthogonals(
    sizes: Sequence[tuple[int, int]], scales: Sequence[float], keys: jax.Array
) -> tuple[Dense, ...]:
    """`orthogonal` for several (inputs, outputs), with a scale and a key for each.

    Kernels of the same height share one loop over columns, which spares compile time.
    A narrow kernel is then the first columns of a wide one.
    """
    heights = [max(size) for size in sizes]
    layers = {}
    for height in sorted(set(heights)):
        members = [i for i, h in enumerate(heights) if h == height]
        width = max(min(sizes[i]) for i in members)
        draw = functools.partial(random.normal, shape=(height, width))
        matrices = jax.vmap(draw)(keys[np.array(members)])
        for i, q in zip(members, jax.vmap(orthonormal_columns)(matrices), strict=True):
            inputs, outputs = sizes[i]
            q = q[:, : min(sizes[i])]
            kernel = scales[i] * (q if inputs >= outputs else q.T)
            layers[i] = Dense(kernel, jnp.zeros_like(kernel, shape=(outputs,)))
    return tuple(layers[i] for i in range(len(sizes)))


@functools.partial(jax.jit, inline=True)  # a loop outside of jit compiles each time
def orthonormal_columns(matrix: jax.Array) -> jax.Array:
    """Gram–Schmidt on the columns of [M, N], M ≥ N; each is projected twice.

    It is the Q of a QR decomposition with a positive diagonal in R. jnp.linalg.qr is
    not used, since on a CPU it calls a library: that takes seconds to compile under
    vmap, and can deadlock when several host devices share few threads.

    Source: Giraud et al. (2005), which shows that twice is enough.
    """

    def orthonormalise(j, q):
        column = q[:, j]
        earlier = jnp.where(jnp.arange(q.shape[1]) < j, q, 0)
        for _ in range(2):
            column = column - earlier @ (earlier.T @ column)
        return q.at[:, j].set(column / jnp.linalg.norm(column))

    return jax.lax.fori_loop(0, matrix.shape[1], orthonormalise, matrix)


def mlp_init(
    sizes: Sequence[int],
    key: jax.Array,
    *,
    initialization: str = "he_normal",
    output_scale: float = 1.0,
) -> tuple[Dense, ...]:
    """Draws the layers of a multilayer perceptron.

    Args:
      sizes: (inputs, hidden…, outputs).
      key: random key.
      initialization: "he_normal", or "orthogonal": √2 times an orthogonal kernel in
        hidden layers, `output_scale` times one in the last.
      output_scale: see above; unused by "he_normal".

    Returns:
      One `Dense` for each pair of neighbouring sizes.

    Raises:
      ValueError: unknown `initialization`.
    """
    (layers,) = _mlps_init([sizes], [output_scale], initialization, [key])
    return layers


def _mlps_init(
    mlps: Sequence[Sequence[int]],
    output_scales: Sequence[float],
    initialization: str,
    keys: Sequence[jax.Array] | jax.Array,
) -> list[tuple[Dense, ...]]:
    """The layers of several perceptrons, each with a key of its own."""
    if initialization not in INITIALIZATIONS:
        raise ValueError(
            f"initialization must be one of {', '.join(map(repr, INITIALIZATIONS))}, "
            f"got {initialization!r}."
        )
    sizes = [size for mlp in mlps for size in itertools.pairwise(mlp)]
    keys = jnp.concatenate(
        [random.split(k, len(mlp) - 1) for k, mlp in zip(keys, mlps, strict=True)]
    )
    if initialization == "he_normal":
        layers = [he_normal(*size, key) for size, key in zip(sizes, keys, strict=True)]
    else:
        scales = []
        for mlp, output_scale in zip(mlps, output_scales, strict=True):
            scales += [2.0**0.5] * (len(mlp) - 2) + [output_scale] * (len(mlp) > 1)
        layers = orthogonals(sizes, scales, keys)
    remaining = iter(layers)
    return [tuple(itertools.islice(remaining, len(mlp) - 1)) for mlp in mlps]


def mlp_apply(
    layers: Sequence[Dense],
    obs: jax.Array,
    activation: str,
    *,
    activate_final: bool = False,
) -> jax.Array:
    """y = W_L·f(… f(W_1·x + b_1) …) + b_L for one observation.

    Args:
      layers: from `mlp_init`.
      obs: an array of any shape, flattened; or an integer scalar, which stands for
        its one-hot vector.
      activation: a key of `ACTIVATIONS`, f.
      activate_final: whether f also follows the last layer.

    Returns:
      [outputs].
    """
    if jnp.issubdtype(obs.dtype, jnp.integer) and obs.ndim == 0:
        first = layers[0].kernel[obs] + layers[0].bias
    else:
        kernel, bias = layers[0]
        is_floating = jnp.issubdtype(obs.dtype, jnp.floating)
        inputs = jnp.ravel(obs if is_floating else obs.astype(kernel.dtype))
        first = inputs @ kernel + bias
    x = first
    for layer in layers[1:]:
        x = ACTIVATIONS[activation](x) @ layer.kernel + layer.bias
    return ACTIVATIONS[activation](x) if activate_final else x


class ActorCriticParams(NamedTuple):
    """A policy head and a value head on a trunk, which is empty for separate nets."""

    trunk: tuple[Dense, ...]
    actor: tuple[Dense, ...]
    critic: tuple[Dense, ...]


def actor_critic_init(
    inputs: int,
    num_actions: int,
    hidden_sizes: Sequence[int],
    key: jax.Array,
    *,
    shared: bool,
    initialization: str = "he_normal",
) -> ActorCriticParams:
    """Draws an actor and a critic.

    Args:
      inputs: size of the observation.
      num_actions: A.
      hidden_sizes: widths of the hidden layers.
      key: random key.
      shared: whether the two heads share the hidden layers, or each has its own.
      initialization: as in `mlp_init`; "orthogonal" scales the last layers by 0.01
        (actor) and 1 (critic), after Andrychowicz et al. (2021), arXiv:2006.05990.

    Raises:
      ValueError: unknown `initialization`.
    """
    trunk_sizes = (inputs, *hidden_sizes) if shared else (inputs,)
    head_sizes = (trunk_sizes[-1],) if shared else (inputs, *hidden_sizes)

    mlps = [trunk_sizes, (*head_sizes, num_actions), (*head_sizes, 1)]
    scales = [2.0**0.5, 0.01, 1.0]
    keys = random.split(key, 3)
    return ActorCriticParams(*_mlps_init(mlps, scales, initialization, keys))


def actor_critic_apply(
    params: ActorCriticParams,
    obs: jax.Array,
    activation: str,
    critic_obs: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Policy logits [A] and value [] of one observation.

    `critic_obs` is what a critic without a trunk reads instead of `obs`, if anything.
    """
    x = obs
    if params.trunk:
        x = mlp_apply(params.trunk, obs, activation, activate_final=True)
    logits = mlp_apply(params.actor, x, activation)
    if critic_obs is not None:
        x = critic_obs
    value = mlp_apply(params.critic, x, activation).squeeze(-1)
    return logits, value
