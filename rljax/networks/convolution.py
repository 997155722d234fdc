"""Convolutions: what turns an image into features for an agent's own network."""

import dataclasses
import itertools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, random, spaces
from rljax.networks.interface import SizedNetwork
from rljax.networks.perceptrons import ACTIVATIONS, orthogonals


class Convolution(NamedTuple):
    """Parameters of a layer, y[i, j] = Σ_{a,b} x[s·i + a, s·j + b]·kernel[a, b] + bias.

    The sums are over a window, s is the stride.
    """

    kernel: jax.Array
    """[size, size, inputs, outputs]."""
    bias: jax.Array
    """[outputs]."""


@dataclasses.dataclass(frozen=True)
class CNN(SizedNetwork):
    """Layers of convolutions over one image [H, W, C], each followed by `activation`.

        agent = rljax.PPO(encoder=networks.CNN(), hidden_sizes=(128,))

    Windows lie inside of the image: a layer leaves (H − size) // stride + 1 rows. The
    agent flattens the features, its own hidden layers read them. The defaults are for
    images of some ten by ten cells, those of MinAtar: one layer of 16 filters of 3 × 3
    (Young and Tian 2019, arXiv:1903.03176). `CNN.atari()` is for screens.

    An agent scales integers to [0, 1] by the bounds of their space and hands on other
    numbers as they are. Kernels start as √2 times an orthogonal matrix [size · size ·
    inputs, outputs], biases at 0.
    """

    channels: tuple[int, ...] = (16,)
    """Filters of each layer."""
    kernel_sizes: tuple[int, ...] = (3,)
    """Rows and columns of each layer's windows."""
    strides: tuple[int, ...] = (1,)
    """From one window of a layer to the next."""
    activation: Literal["relu", "tanh"] = "relu"
    """Follows each layer, the last one too."""

    def __post_init__(self):
        lengths = {}
        for name in ("channels", "kernel_sizes", "strides"):
            checks.sizes(self, name)
            lengths[name] = len(getattr(self, name))
        if len(set(lengths.values())) > 1 or not self.channels:
            raise ValueError(
                "CNN.channels, kernel_sizes and strides must have one entry for each "
                f"layer, got {', '.join(f'{n} {name}' for name, n in lengths.items())}."
            )
        checks.choice(self, "activation", ACTIVATIONS)

    @classmethod
    def atari(cls) -> "CNN":
        """The three layers for 84 × 84 × 4 screens, before a hidden layer of 512.

        Source: Mnih et al. (2015), Human-level control through deep reinforcement
        learning, Methods.
        """
        return cls((32, 64, 64), (8, 4, 3), (4, 2, 1))

    def check_observations(self, space: spaces.Space, label: str) -> None:
        """Raises ValueError unless observations are images of at least one window."""
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ValueError(
                f"{label} = {type(self).__name__} reads one image, a Box of shape "
                f"(H, W, C), got {space}. Write an encoder that picks the image out of "
                "other observations, or see rljax.FrameStack for several images."
            )
        sides = space.shape[:2]
        for size, stride in zip(self.kernel_sizes, self.strides, strict=True):
            if min(sides) < size:
                raise ValueError(
                    f"{label}.kernel_sizes must fit into what is left of the images, "
                    f"got {self.kernel_sizes} with strides {self.strides} for images "
                    f"{space.shape}: {size} is more than {min(sides)}."
                )
            sides = tuple((side - size) // stride + 1 for side in sides)

    def init(self, key: jax.Array, obs: jax.Array) -> tuple[Convolution, ...]:
        """Draws the layers for images shaped as `obs`."""
        channels = itertools.pairwise((obs.shape[2], *self.channels))
        windows = [
            (size, size, *pair)
            for size, pair in zip(self.kernel_sizes, channels, strict=True)
        ]
        layers = orthogonals(
            [(size * size * inputs, outputs) for size, _, inputs, outputs in windows],
            [2.0**0.5] * len(windows),
            random.split(key, len(windows)),
        )
        return tuple(
            Convolution(layer.kernel.reshape(window), layer.bias)
            for layer, window in zip(layers, windows, strict=True)
        )

    def apply(self, params: tuple[Convolution, ...], obs: jax.Array) -> jax.Array:
        """The last layer's features, [H', W', channels[-1]]."""
        x = obs.astype(params[0].kernel.dtype)
        for (kernel, bias), stride in zip(params, self.strides, strict=True):
            windows = _windows(x, len(kernel), stride)
            # Their numbers are in the order of columns, rows, inputs.
            matrix = kernel.transpose(1, 0, 2, 3).reshape(-1, len(bias))
            x = windows @ matrix
            x = ACTIVATIONS[self.activation](x + jnp.broadcast_to(bias, x.shape))
        return x


def _windows(x: jax.Array, size: int, stride: int) -> jax.Array:
    """All windows of an image [H, W, C] as vectors, [H', W', size · size · C].

    One matrix product is then a convolution. Under vmap over seeds it stays one, where
    XLA's own convolution falls apart into groups, which takes a CPU three times as
    long; for a single seed and small images the two are alike.
    """
    for axis in range(2):
        ends = x.shape[axis] - size + 1
        x = jnp.concatenate(
            [jax.lax.slice_in_dim(x, i, i + ends, stride, axis) for i in range(size)],
            axis=-1,
        )
    return x
