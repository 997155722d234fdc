"""Many seeds at once: vmapped, and sharded over the devices of this process."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from rljax import struct


def use_cpu_cores(max_devices: int | None = None) -> None:
    """Makes JAX see one CPU device per core, `max_devices` at most.

    On a CPU, vmapped seeds of a small network gain nothing from a second core, while
    seeds sharded over two devices run twice as fast. Call it before JAX first touches
    a device; where the user has set a device count already, that stays. It does not
    choose the platform: with a GPU, JAX goes on using the GPU.

    Raises:
      RuntimeError: JAX has already been initialised.
      ValueError: `max_devices` is below 1.
    """
    if max_devices is not None:
        struct.check_int("max_devices", max_devices, minimum=1)
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if jax.config.jax_num_cpu_devices > 0:  # pyright: ignore[reportAttributeAccessIssue]
        return
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", min(cores, max_devices or cores))


def map_seeds(fn: Callable[..., Any], *, devices: Sequence[Any] | None = None) -> Any:
    """Turns a function of one seed into a jitted one of many, sharded over devices.

    Args:
      fn: pure function of pytrees; any number of arguments.
      devices: where to run, by default all local devices.

    Returns:
      A jitted function whose arguments and results have a leading [num_seeds]. If the
      devices do not divide the seeds, the last seeds are run again as padding and
      dropped; more devices than seeds are left idle.

    Raises:
      ValueError: no devices; or, when called, arguments whose leading axes differ or
        are empty.
    """
    devices = list(jax.local_devices() if devices is None else devices)
    if not devices:
        raise ValueError("devices must name at least one device, got none.")

    def mapped(*args):
        sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(args)}
        if len(sizes) != 1 or sizes <= {(), (0,)}:
            raise ValueError(
                "all arguments must have one leading axis [num_seeds] of at least 1, "
                f"got leading sizes {sorted(sizes)}."
            )
        ((num_seeds,),) = sizes
        used = devices[:num_seeds]
        mesh = Mesh(np.array(used), ("seeds",))
        spec = PartitionSpec("seeds")
        sharded = jax.shard_map(
            jax.vmap(fn), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
        )
        padding = -num_seeds % len(used)
        if not padding:
            return sharded(*args)
        order = jnp.minimum(jnp.arange(num_seeds + padding), num_seeds - 1)
        out = sharded(*jax.tree.map(lambda x: x[order], args))
        return jax.tree.map(lambda x: x[:num_seeds], out)

    return jax.jit(mapped)
