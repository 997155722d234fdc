"""Runs of one structure, trained in lockstep by one compiled program.

A population holds every run's own hyperparameters, physics and state. A loop on the
host advances it by some updates at a time, so that progress, metrics and states can be
read between two calls. How the updates are divided into calls does not change a single
bit of the result.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rljax.evaluation import Evaluation, KeepBest
from rljax.experiment import programs, transfer
from rljax.experiment.programs import RunState, Structure
from rljax.parallel import lay_out
from rljax.random import is_typed_key
from rljax.training import Measure, Metrics
from rljax.types import Agent, EnvLike, is_buffer, without_buffers

METRICS_BYTES = 2**24
"""Bytes of metrics that may be kept on the devices before they go to the host."""
MAX_CHUNK = 256
CONFIG = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
)


class Population:
    """Runs of agents and environments of one structure.

    Run i × num_seeds + j is the i-th of the pairs with the j-th key.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Agent, EnvLike]],
        keys: jax.Array,
        *,
        devices: Sequence[Any] | None,
        batch_size: int | None,
        memory_budget: int,
        reserved: int = 0,
        measure: Measure | None = None,
        keep_best: KeepBest | None = None,
    ):
        """Compiles, so that a mistake or a lack of memory shows before anything runs.

        Args:
          pairs: agent and environment of each setting, with equal `structure_of`.
          keys: [num_seeds] random keys.
          devices, batch_size: see `parallel.lay_out`. A batch size of None stands for
            as many runs as fit a core's cache on a CPU and for all runs elsewhere, or
            for fewer if memory is short.
          memory_budget: bytes on all devices of this process together.
          reserved: bytes of the budget that are already taken by others.
          measure, keep_best: see `train`.

        Raises:
          MemoryError: not even one run at a time fits `memory_budget`.
        """
        columns = list(zip(*(jax.tree.leaves(pair) for pair in pairs), strict=True))
        stacked = [np.stack([_canonical(x) for x in column]) for column in columns]
        varied = tuple(bool((column != column[:1]).any()) for column in stacked)
        self.pairs = tuple(pairs)
        self.num_seeds = len(keys)
        self._structure = Structure(
            jax.tree.structure(pairs[0]),
            tuple(jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in stacked),
            varied,
            jax.ShapeDtypeStruct(keys.shape[1:], keys.dtype),
            measure,
            keep_best,
            tuple(getattr(jax.config, name) for name in CONFIG),
        )
        self._shared = tuple(
            None if differs else column[0]
            for column, differs in zip(stacked, varied, strict=True)
        )
        num_runs = len(pairs) * self.num_seeds
        self._lay_out(num_runs, devices, batch_size, memory_budget, reserved)
        self._varied = transfer.put(
            self.layout,
            tuple(
                np.repeat(column, self.num_seeds, axis=0)
                for column, differs in zip(stacked, varied, strict=True)
                if differs
            ),
        )
        self._keys = keys
        self.state: Any = None

    def _lay_out(self, num_runs, devices, batch_size, memory_budget, reserved):
        if batch_size is None:
            used = jax.devices() if devices is None else devices
            if used and used[0].platform == "cpu":
                share = -(-num_runs // len(used))
                batch_size = programs.cpu_batch_size(self._structure, share)
        metrics = programs.num_bytes(programs.shapes(self._structure)[1]) * num_runs
        chunk = 2 ** int(np.log2(max(1, METRICS_BYTES // metrics)))
        self.max_chunk = min(MAX_CHUNK, chunk)
        while True:
            self.layout = lay_out(num_runs, devices=devices, batch_size=batch_size)
            self._init, self._advance = programs.compile_training(
                self._structure, self.layout, self.max_chunk
            )
            needed, temporary = programs.memory(self._advance, self.layout)
            needed += reserved
            if needed <= memory_budget:
                return
            if self.layout.batch_size == 1:
                raise MemoryError(
                    f"memory_budget is {memory_budget / 2**20:.3g} MiB, but {num_runs} "
                    f"runs need {needed / 2**20:.3g} MiB on the devices of a process "
                    "even one at a time. Sweep over fewer seeds or settings per call."
                )
            room = max(0, memory_budget - (needed - temporary))
            smaller = int(self.layout.batch_size * room / max(temporary, 1))
            batch_size = max(1, min(smaller, self.layout.batch_size - 1))

    @property
    def num_runs(self) -> int:
        """Settings × seeds."""
        return self.layout.num_runs

    def start(self) -> None:
        """Initialises every run."""
        keys = self._for_all(self._keys)
        self.state = self._init(self._shared, self._varied, keys)

    def advance(self, first_update: int, num_updates: int) -> Metrics:
        """Trains every run for `num_updates` more updates, `max_chunk` at most.

        Returns:
          Metrics [num_runs, num_updates] as NumPy arrays. For a frozen run, they count
          no episodes, and the agent's metrics are NaN.
        """
        shared = (self._shared, np.int32(first_update), np.int32(num_updates))
        self.state, metrics = self._advance(shared, self._varied, self.state)
        metrics = transfer.get(self.layout, metrics)
        return jax.tree.map(lambda x: x[:, :num_updates], metrics)

    def evaluate(
        self, keys: jax.Array, num_episodes: int, max_steps: int, greedy: bool = True
    ) -> Evaluation:
        """Plays episodes, [num_runs, num_episodes], with keys [num_seeds].

        The best agent states play where they are kept, else the last ones.
        """
        run = programs.compile_evaluation(
            self._structure, self.layout, num_episodes, max_steps, greedy
        )
        state = self.state.train_state
        kept = self._structure.keep_best is not None
        agent_state = without_buffers((state.best if kept else state).agent_state)
        keys = self._for_all(keys)
        return transfer.get(
            self.layout, run(self._shared, self._varied, agent_state, keys)
        )

    def _for_all(self, keys: jax.Array) -> jax.Array:
        """The keys of all runs, on their devices: the same keys for each setting."""
        return transfer.put(self.layout, jnp.concatenate([keys] * len(self.pairs)))

    def to_host(self, *, buffers: bool = True) -> RunState:
        """The states of all runs, leaves [num_runs, …], as NumPy arrays.

        Without `buffers`, each `Buffer` is empty: only a checkpoint needs them.
        """
        return transfer.get(
            self.layout, self.state if buffers else without_buffers(self.state)
        )

    def from_host(self, state: RunState) -> None:
        """Continues from what `to_host` returned, even on other devices."""
        self.state = transfer.put(self.layout, state)

    def host_shapes(self) -> RunState:
        """Shapes and dtypes of what `to_host` returns."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.num_runs, *x.shape), x.dtype),
            programs.shapes(self._structure)[0],
        )

    def metrics_shapes(self) -> Metrics:
        """Shapes and dtypes of one run's metrics of one update."""
        return programs.shapes(self._structure)[1]

    def faults(self) -> tuple[np.ndarray, np.ndarray]:
        """`fault_update` and `fault_leaf` of all runs, [num_runs]."""
        return transfer.get(
            self.layout, (self.state.fault_update, self.state.fault_leaf)
        )

    def leaf_name(self, index: int) -> str:
        """The name of the agent state's leaf that a `RunState.fault_leaf` means."""
        state = programs.shapes(self._structure)[0].train_state.agent_state
        leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_buffer)
        path, _ = leaves[index]
        return jax.tree_util.keystr(path)


def structure_of(pair: tuple[Agent, EnvLike]) -> Any:
    """What two settings must have in common to share a compiled program; hashable."""
    shapes = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(pair):
        who = type(pair[path[0].idx]).__name__ + jax.tree_util.keystr(path[1:])
        if hasattr(leaf, "dtype") and is_typed_key(leaf):
            raise TypeError(
                f"{who} must not be a random key: a sweep has its own keys."
            )
        array = _canonical(leaf)
        if array.dtype.kind in "iu" and not np.array_equal(array, leaf):
            raise ValueError(f"{who} does not fit {array.dtype}, got {leaf!r}.")
        shapes.append((array.shape, array.dtype))
    return jax.tree.structure(pair), tuple(shapes)


def state_bytes(
    pair: tuple[Agent, EnvLike], keys: jax.Array, keep_best: KeepBest | None
) -> int:
    """Bytes of one run's state."""
    key = jax.ShapeDtypeStruct(keys.shape[1:], keys.dtype)
    return programs.num_bytes(
        jax.eval_shape(lambda key: programs.start_run(*pair, key, keep_best), key)
    )


def _canonical(leaf: Any) -> np.ndarray:
    """The leaf as JAX would see it: 32 bits unless x64 is enabled."""
    array = np.asarray(leaf)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
