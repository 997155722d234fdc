"""Many runs at once: vmapped in batches, sharded over devices and processes."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from rljax import checks


def use_cpu_cores(
    max_devices: int | None = None, *, num_threads: int | None = None
) -> None:
    """Makes JAX see one CPU device per core, `max_devices` at most.

    On a CPU, vmapped seeds of a small network gain nothing from a second core, while
    seeds sharded over two devices run twice as fast. Call it before JAX first touches
    a device; where the user has set a device count already, that stays. It does not
    choose the platform: with a GPU, JAX goes on using the GPU.

    `num_threads` sets the threads that all devices share, through the environment
    variable PJRT_NPROC; None leaves JAX's choice, one per core. For one run of a small
    network, `use_cpu_cores(1, num_threads=1)`: PPO with two 64-64 networks ran 1.2
    times as fast, as nothing is handed from thread to thread. Large matrices, and
    batches of runs on several devices, need the threads.

    Raises:
      RuntimeError: JAX has already been initialised.
      TypeError, ValueError: an argument is no integer of 1 or more.
    """
    if max_devices is not None:
        checks.integer("max_devices", max_devices, minimum=1)
    if num_threads is not None:
        checks.integer("num_threads", num_threads, minimum=1)
        _require_not_started()
        os.environ["PJRT_NPROC"] = str(num_threads)
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if jax.config.jax_num_cpu_devices > 0:  # pyright: ignore[reportAttributeAccessIssue]
        return
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", min(cores, max_devices or cores))


def fuse_small_loops() -> None:
    """Lets XLA make one CPU kernel of a loop over at most 64 KiB; its default is 1 KiB.

    It does so through the environment variable XLA_FLAGS, where a threshold of the
    user's own stays. One seed of a tabular agent in one environment gains most: on a
    7×7 grid, training that can be stopped after each step takes 0.18 µs a step instead
    of 1.1. Loops over larger arrays, such as many seeds, are not affected. Call it
    before JAX first touches a device. JAX 0.7.0 makes no such kernels.

    Raises:
      RuntimeError: JAX has already been initialised.
    """
    _require_not_started()
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_small_while_loop_byte_threshold" not in flags:
        option = "xla_cpu_small_while_loop_byte_threshold=65536"
        flags = f"{flags} --xla_backend_extra_options={option}"
        os.environ["XLA_FLAGS"] = flags.strip()


def _require_not_started() -> None:
    """Raises RuntimeError where JAX has started, and a variable would come too late."""
    devices = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_num_cpu_devices", 2 if devices == 1 else 1)
    jax.config.update("jax_num_cpu_devices", devices)


class Layout(NamedTuple):
    """How runs are spread: over devices, and on each of them in batches.

    A device takes its batches one after another and vmaps over the runs of one batch.
    The last runs are repeated as padding where the numbers do not divide.
    """

    mesh: Mesh
    num_runs: int
    batch_size: int
    """Runs that are vmapped together on one device."""
    num_batches: int
    """Batches per device."""

    @property
    def num_padded(self) -> int:
        """Runs with padding: devices × batches × batch size."""
        return self.mesh.size * self.num_batches * self.batch_size

    def map(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Turns fn(shared, *arguments) of one run into a function of all of them.

        Args:
          fn: pure function of pytrees.

        Returns:
          A function to be jitted: `shared` is the same for all runs, the other
          arguments and the results have leaves [num_padded, …].
        """

        def map_device(shared, *args):
            def map_batch(args):
                return jax.vmap(lambda *one: fn(shared, *one))(*args)

            if self.num_batches == 1:
                return map_batch(args)
            shape = (self.num_batches, self.batch_size)
            batches = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), args)
            out = jax.lax.map(map_batch, batches)
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)

        def mapped(shared, *args):
            runs = PartitionSpec("runs")
            return jax.shard_map(
                map_device,
                mesh=self.mesh,
                in_specs=(PartitionSpec(), *(runs for _ in args)),
                out_specs=runs,
                check_vma=False,
            )(shared, *args)

        return mapped


def lay_out(
    num_runs: int,
    *,
    devices: Sequence[Any] | None = None,
    batch_size: int | None = None,
) -> Layout:
    """Spreads runs evenly over devices.

    Args:
      num_runs: 1 or more.
      devices: where to run, by default all devices of all processes. More devices than
        runs are left idle in a single process.
      batch_size: runs that one device vmaps together, at most; None: all of its share.

    Raises:
      TypeError, ValueError: `num_runs` or `batch_size` is no integer of 1 or more;
        `devices` is no list of different devices.
    """
    num_runs = checks.integer("num_runs", num_runs, minimum=1)
    devices = check_devices(jax.devices() if devices is None else devices)
    if jax.process_count() == 1:
        devices = devices[:num_runs]
    share = -(-num_runs // len(devices))
    if batch_size is None:
        batch_size = share
    num_batches = -(-share // checks.integer("batch_size", batch_size, minimum=1))
    return Layout(
        Mesh(np.array(devices), ("runs",)),
        num_runs,
        batch_size=-(-share // num_batches),
        num_batches=num_batches,
    )


def map_seeds(
    fn: Callable[..., Any],
    *,
    devices: Sequence[Any] | None = None,
    batch_size: int | None = None,
) -> Any:
    """Turns a function of one seed into a jitted one of many, sharded over devices.

    Args:
      fn: pure function of pytrees; any number of arguments.
      devices, batch_size: as for `lay_out`, but by default the devices of this process.

    Returns:
      A jitted function whose arguments and results have a leading [num_seeds].

    Raises:
      TypeError, ValueError: an argument is wrong; or, when called, the leading axes of
        the arguments differ or are empty.
    """
    if not callable(fn):
        raise TypeError(f"fn must be a function of one seed, got {fn!r}.")
    devices = check_devices(jax.local_devices() if devices is None else devices)
    if batch_size is not None:
        batch_size = checks.integer("batch_size", batch_size, minimum=1)

    def mapped(*args):
        sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(args)}
        if len(sizes) != 1 or sizes <= {(), (0,)}:
            raise ValueError(
                "all arguments must have one leading axis [num_seeds] of at least 1, "
                f"got leading sizes {sorted(sizes)}."
            )
        ((num_seeds,),) = sizes
        layout = lay_out(num_seeds, devices=devices, batch_size=batch_size)
        spread = layout.map(lambda _, *one: fn(*one))
        if layout.num_padded == num_seeds:
            return spread((), *args)
        order = jnp.minimum(jnp.arange(layout.num_padded), num_seeds - 1)
        out = spread((), *jax.tree.map(lambda x: x[order], args))
        return jax.tree.map(lambda x: x[:num_seeds], out)

    return jax.jit(mapped)


def check_devices(devices: Any) -> list[Any]:
    """The devices as a list.

    Raises:
      TypeError, ValueError: they are not devices, none, or one of them is there twice.
    """
    is_sequence = isinstance(devices, Sequence) and not isinstance(devices, str)
    if not is_sequence or not all(isinstance(d, jax.Device) for d in devices):
        raise TypeError(
            f"devices must be a list of devices such as jax.devices(), got {devices!r}."
        )
    if not devices or len(set(devices)) < len(devices):
        raise ValueError(
            "devices must name at least one device, and each once, got "
            f"{devices if devices else 'none'}."
        )
    return list(devices)
