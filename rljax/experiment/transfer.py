"""Runs on their way between the host and the devices of a layout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from rljax.parallel import Layout
from rljax.random import is_typed_key


def put(layout: Layout, tree: Any) -> Any:
    """Pads leaves [num_runs, …] and puts each run on its device.

    With several processes, every one of them must hand in the same values.
    """
    order = np.minimum(np.arange(layout.num_padded), layout.num_runs - 1)
    sharding = NamedSharding(layout.mesh, PartitionSpec("runs"))

    def put_leaf(x):
        if is_typed_key(x):
            data = put_leaf(jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        padded = np.asarray(x)[order]
        return jax.make_array_from_callback(
            padded.shape, sharding, lambda index: padded[index]
        )

    return jax.tree.map(put_leaf, tree)


def get(layout: Layout, tree: Any) -> Any:
    """The leaves without padding, as NumPy arrays, on every process.

    Typed keys stay typed keys.
    """

    def get_leaf(x):
        if is_typed_key(x):
            data = jnp.asarray(get_leaf(jax.random.key_data(x)))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        if not x.is_fully_addressable:
            x = multihost_utils.process_allgather(x, tiled=True)
        # This is a copy, since a view would keep the buffer from being donated.
        return np.asarray(x)[: layout.num_runs].copy()

    return jax.tree.map(get_leaf, tree)
