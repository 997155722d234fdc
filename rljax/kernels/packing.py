"""Where each parameter of a network lies in one padded vector."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

CHUNK = 2048
"""Numbers that a kernel's passes over the whole vector take at a time."""


class Piece(NamedTuple):
    """One array: its place in the vector, and its shape there and as it is."""

    offset: int
    shape: tuple[int, ...]
    true_shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers that it takes in the vector."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.size


class Network(NamedTuple):
    """The arrays of one perceptron as kernels read them.

    The first kernel's last row is the first bias: the observation's last number is 1.
    The last kernel has a row for each output.
    """

    first: Any
    """[D + 1, H], the rows padded to a power of two."""
    hidden: tuple[tuple[Any, Any], ...]
    """(kernel [H, H], bias [H]) of each further hidden layer."""
    rows: Any
    """[outputs, H]."""
    offsets: Any
    """[outputs], the last bias."""


def width(size: int) -> int:
    """The least power of two, of at least 16, that is no less than `size`.

    A GPU's matrix units take no smaller products.
    """
    return max(16, 1 << (size - 1).bit_length())


def arrange(layers: Sequence[Any]) -> Network:
    """The layers of a perceptron, each (kernel, bias), in a kernel's order."""
    (kernel, bias), *hidden, (last, offsets) = layers
    inputs, units = kernel.shape
    rows = width(inputs + 1)
    first = jnp.zeros((rows, units), kernel.dtype).at[:inputs].set(kernel)
    hidden = tuple((kernel, bias) for kernel, bias in hidden)
    return Network(first.at[-1].set(bias), hidden, last.T, offsets)


def restore(network: Network, layers: Sequence[Any]) -> tuple[Any, ...]:
    """What `arrange` was given, `layers` being of the same shapes."""
    first, *hidden, last = layers
    arrays = [
        (network.first[: len(first.kernel)], network.first[-1]),
        *network.hidden,
        (network.rows.T, network.offsets),
    ]
    kinds = [first, *hidden, last]
    return tuple(type(like)(*pair) for like, pair in zip(kinds, arrays, strict=True))


def layout(tree: Any) -> Any:
    """The tree, with a `Piece` in the place of each array or shape."""
    leaves, treedef = jax.tree.flatten(tree)
    pieces, offset = [], 0
    for leaf in leaves:
        shape = tuple(map(width, leaf.shape))
        pieces.append(Piece(offset, shape, leaf.shape))
        offset = pieces[-1].end
    return jax.tree.unflatten(treedef, pieces)


def pieces(tree: Any) -> list[Piece]:
    """The pieces of a layout, in their order."""
    return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Piece))


def length(tree: Any) -> int:
    """Of the vector: a multiple of `CHUNK`."""
    return -(-pieces(tree)[-1].end // CHUNK) * CHUNK


def pack(tree: Any, arrays: Any) -> jax.Array:
    """The arrays in one vector, with zeros between them."""
    parts = []
    for piece, leaf in zip(pieces(tree), jax.tree.leaves(arrays), strict=True):
        widths = zip(piece.shape, leaf.shape, strict=True)
        parts.append(jnp.pad(leaf, [(0, w - n) for w, n in widths]).reshape(-1))
    vector = jnp.concatenate(parts)
    return jnp.pad(vector, (0, length(tree) - len(vector)))


def unpack(tree: Any, vector: jax.Array) -> Any:
    """The tree of arrays that `pack` was given."""

    def leaf(piece):
        part = vector[piece.offset : piece.end].reshape(piece.shape)
        return part[tuple(map(slice, piece.true_shape))]

    return jax.tree.map(leaf, tree, is_leaf=lambda x: isinstance(x, Piece))
