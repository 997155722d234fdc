"""Multilayer perceptrons as pairs of functions, and the seam for anybody else's.

An agent's `network` is any hashable object with `init(key, obs) -> params` and
`apply(params, obs) -> output`: a flax module is one as it stands. The observation is a
single one, without a batch axis; agents vmap `apply`. What the output must be, the
agent says. Without a network of the user's, agents use those of this module.
"""

import abc
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import random, spaces, struct

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}
INITIALIZATIONS = ("orthogonal", "he_normal")


@runtime_checkable
class Network(Protocol):
    """A user's network, static: two pure functions."""

    def init(self, key: jax.Array, obs: Any, /) -> Any:
        """Parameters for observations shaped as `obs`."""
        ...

    def apply(self, params: Any, obs: Any, /) -> Any:
        """The output for one observation."""
        ...


class SizedNetwork(abc.ABC):
    """A network that knows which observations it can read, and is asked by agents."""

    @abc.abstractmethod
    def check_observations(self, space: spaces.Space, label: str) -> None:
        """Raises ValueError where it can't read the observations of a space.

        `label` is what the message calls the network.
        """


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
    (layer,) = _orthogonal_layers([(inputs, outputs)], [scale], key[None])
    return layer


def _orthogonal_layers(
    sizes: Sequence[tuple[int, int]], scales: Sequence[float], keys: jax.Array
) -> tuple[Dense, ...]:
    """`orthogonal` for several (inputs, outputs).

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
        layers = _orthogonal_layers(sizes, scales, keys)
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


@struct.dataclass
class Scaled:
    """Parameters of a network whose input is (obs − low) / (high − low), in [0, 1].

    The bounds are structure, not leaves: no optimiser moves them.
    """

    params: Any
    """Those of the network itself."""
    low: float = struct.static()
    high: float = struct.static()


def scaled(params: Any, space: spaces.Space) -> Any:
    """`params` for the observations of a space: `Scaled` for an integer Box.

    Of its bounds, the least and the greatest count: 0 and 255 for images. If one of
    them is infinite, nothing is scaled.

    Raises:
      TypeError: the bounds are traced.
    """
    if not isinstance(space, spaces.Box) or not jnp.issubdtype(
        jnp.dtype(space.dtype), jnp.integer
    ):
        return params
    if any(isinstance(bound, Tracer) for bound in (space.low, space.high)):
        raise TypeError(
            "the bounds of an integer Box must be known when a network is made for it, "
            f"as they scale its input, but are traced in {space}. Make them of numbers "
            "or NumPy arrays that are no leaves, or pass a network of your own."
        )
    low, high = float(np.min(space.low)), float(np.max(space.high))
    finite = np.isfinite(low) and np.isfinite(high) and low < high
    return Scaled(params, low, high) if finite else params


def scale(params: Any, obs: jax.Array) -> tuple[Any, jax.Array]:
    """The network's own parameters, and what it reads of an observation."""
    if not isinstance(params, Scaled):
        return params, obs
    floating = obs.astype(jnp.result_type(float))
    return params.params, (floating - params.low) / (params.high - params.low)


class LogScaled(NamedTuple):
    """Parameters of a network of means, and log σ, which no observation changes."""

    params: Any
    """Those of the network itself."""
    log_scale: jax.Array
    """Of an action's shape."""


def opened(params: Any, obs: jax.Array) -> tuple[Any, jax.Array, jax.Array | None]:
    """The network's own parameters, what it reads of an observation, and log σ."""
    params, obs = scale(params, obs)
    if isinstance(params, LogScaled):
        return params.params, obs, params.log_scale
    return params, obs, None


def with_log_scale(outputs: jax.Array, log_scale: jax.Array | None) -> Any:
    """What a distribution takes: outputs [A], or (mean, log σ) of an action's shape."""
    if log_scale is None:
        return outputs
    return outputs.reshape(log_scale.shape), log_scale


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
    params: ActorCriticParams, obs: jax.Array, activation: str
) -> tuple[jax.Array, jax.Array]:
    """Policy logits [A] and value [] of one observation."""
    x = obs
    if params.trunk:
        x = mlp_apply(params.trunk, obs, activation, activate_final=True)
    logits = mlp_apply(params.actor, x, activation)
    value = mlp_apply(params.critic, x, activation).squeeze(-1)
    return logits, value
