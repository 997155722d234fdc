"""Runs of one structure, trained in lockstep by one compiled program.

A population holds every run's own hyperparameters, physics and state. It is advanced
some updates at a time, from a loop on the host, so that progress, metrics and states
can be had between two calls; how the updates are divided does not change a bit of the
result.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rljax import rollout
from rljax.evaluate import Evaluation, evaluate
from rljax.faults import is_broken
from rljax.parallel import Layout, lay_out
from rljax.random import is_typed_key
from rljax.train import Measure, Metrics, TrainState, init_train, train_step
from rljax.types import Agent, Env

CACHE_BYTES = 2**19
"""What the runs that are vmapped together may touch on a CPU, about a core's cache."""
FEW_TABLES = 16
"""Tables per CPU device that are learned one by one rather than vmapped."""
METRICS_BYTES = 2**24
"""Metrics that may lie on the devices before they go to the host."""
MAX_CHUNK = 256
CONFIG = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
)


class RunState(NamedTuple):
    """What one run carries from one update to the next."""

    train_state: TrainState
    """From before the first update that broke it, if one did."""
    fault_update: jax.Array
    """[] int32: the update, counted from 1, that made a parameter NaN or infinite and
    froze the run (0: it was so from the start); −1 as long as none has."""
    fault_leaf: jax.Array
    """[] int32: the first such leaf among the agent state's."""


class _Structure(NamedTuple):
    """All that decides what is compiled, save the layout; hashable."""

    tree: Any
    """Of (agent, env)."""
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    """Of one run."""
    varied: tuple[bool, ...]
    """Leaf by leaf: whether it differs from run to run."""
    key: jax.ShapeDtypeStruct
    measure: Measure | None
    """As of `train`."""
    config: tuple[Any, ...]
    """Settings of JAX that change what is compiled."""

    def build(self, shared: Sequence[Any], varied: Sequence[Any]) -> Any:
        """One run's agent and environment."""
        own = iter(varied)
        leaves = (
            next(own) if differs else leaf
            for leaf, differs in zip(shared, self.varied, strict=True)
        )
        return jax.tree.unflatten(self.tree, list(leaves))


class Population:
    """Runs of agents and environments of one structure.

    Run i × num_seeds + j is the i-th of the pairs with the j-th key.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Agent, Env]],
        keys: jax.Array,
        *,
        devices: Sequence[Any] | None,
        batch_size: int | None,
        memory_budget: int,
        reserved: int = 0,
        measure: Measure | None = None,
    ):
        """Compiles, so that a misfit or a lack of memory shows before anything runs.

        Args:
          pairs: agent and environment of each setting; `structure_of` must be equal.
          keys: [num_seeds] random keys.
          devices, batch_size: see `parallel.lay_out`; batch size None: as many as fit a
            core's cache on a CPU, all elsewhere, and fewer if memory is short.
          memory_budget: bytes on all devices of this process together.
          reserved: bytes of it that are others'.
          measure: see `train`.

        Raises:
          MemoryError: not even one run at a time fits `memory_budget`.
        """
        columns = list(zip(*(jax.tree.leaves(pair) for pair in pairs), strict=True))
        stacked = [np.stack([_canonical(x) for x in column]) for column in columns]
        varied = tuple(bool((column != column[:1]).any()) for column in stacked)
        self.pairs = tuple(pairs)
        self.num_seeds = len(keys)
        self._structure = _Structure(
            jax.tree.structure(pairs[0]),
            tuple(jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in stacked),
            varied,
            jax.ShapeDtypeStruct(keys.shape[1:], keys.dtype),
            measure,
            tuple(getattr(jax.config, name) for name in CONFIG),
        )
        self._shared = tuple(
            None if differs else column[0]
            for column, differs in zip(stacked, varied, strict=True)
        )
        num_runs = len(pairs) * self.num_seeds
        self._lay_out(num_runs, devices, batch_size, memory_budget, reserved)
        self._varied = self.layout.put(
            tuple(
                np.repeat(column, self.num_seeds, axis=0)
                for column, differs in zip(stacked, varied, strict=True)
                if differs
            )
        )
        self._keys = keys
        self.state: Any = None

    def _lay_out(self, num_runs, devices, batch_size, memory_budget, reserved):
        if batch_size is None:
            used = jax.devices() if devices is None else devices
            if used and used[0].platform == "cpu":
                share = -(-num_runs // len(used))
                batch_size = _cpu_batch_size(self._structure, share)
        metrics = _bytes(_shapes(self._structure)[1]) * num_runs
        chunk = 2 ** int(np.log2(max(1, METRICS_BYTES // metrics)))
        self.max_chunk = min(MAX_CHUNK, chunk)
        while True:
            self.layout = lay_out(num_runs, devices=devices, batch_size=batch_size)
            self._init, self._advance = _compile(
                self._structure, self.layout, self.max_chunk
            )
            needed, temporary = _memory(self._advance, self.layout)
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
          Metrics [num_runs, num_updates] as NumPy arrays; those of frozen runs count no
          episodes and are NaN.
        """
        shared = (self._shared, np.int32(first_update), np.int32(num_updates))
        self.state, metrics = self._advance(shared, self._varied, self.state)
        metrics = self.layout.get(metrics)
        return jax.tree.map(lambda x: x[:, :num_updates], metrics)

    def evaluate(
        self, keys: jax.Array, num_episodes: int, max_steps: int
    ) -> Evaluation:
        """Whole greedy episodes, [num_runs, num_episodes]; `keys` [num_seeds]."""
        run = _compile_evaluate(self._structure, self.layout, num_episodes, max_steps)
        agent_state = self.state.train_state.agent_state
        keys = self._for_all(keys)
        return self.layout.get(run(self._shared, self._varied, agent_state, keys))

    def _for_all(self, keys: jax.Array) -> jax.Array:
        """Each setting's seeds with the same keys, on their devices."""
        return self.layout.put(jnp.concatenate([keys] * len(self.pairs)))

    def to_host(self) -> RunState:
        """The states of all runs, leaves [num_runs, …], as NumPy arrays."""
        return self.layout.get(self.state)

    def from_host(self, state: RunState) -> None:
        """Goes on from what `to_host` returned, whatever the devices were then."""
        self.state = self.layout.put(state)

    def host_shapes(self) -> RunState:
        """Shapes and dtypes of what `to_host` returns."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.num_runs, *x.shape), x.dtype),
            _shapes(self._structure)[0],
        )

    def metrics_shapes(self) -> Metrics:
        """Shapes and dtypes of one run's metrics of one update."""
        return _shapes(self._structure)[1]

    def faults(self) -> tuple[np.ndarray, np.ndarray]:
        """`fault_update` and `fault_leaf` of all runs, [num_runs]."""
        return self.layout.get((self.state.fault_update, self.state.fault_leaf))

    def leaf_name(self, index: int) -> str:
        """The name of a leaf of the agent state, as `RunState.fault_leaf` counts."""
        state = _shapes(self._structure)[0].train_state.agent_state
        path, _ = jax.tree_util.tree_leaves_with_path(state)[index]
        return jax.tree_util.keystr(path)


def structure_of(pair: tuple[Agent, Env]) -> Any:
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


def state_bytes(pair: tuple[Agent, Env], keys: jax.Array) -> int:
    """Bytes of one run's state."""
    key = jax.ShapeDtypeStruct(keys.shape[1:], keys.dtype)
    return _bytes(jax.eval_shape(lambda key: init_train(*pair, key), key))


def _canonical(leaf: Any) -> np.ndarray:
    """The leaf as JAX would see it: 32 bits unless x64 is enabled."""
    array = np.asarray(leaf)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))


def _init_run(structure, shared, varied, key):
    agent, env = structure.build(shared, varied)
    train_state = init_train(agent, env, key)
    broken = is_broken(train_state.agent_state)
    fault_update = jnp.where(jnp.any(broken), 0, -1).astype(jnp.int32)
    return RunState(train_state, fault_update, jnp.argmax(broken).astype(jnp.int32))


def _advance_run(structure, capacity, shared, varied, state):
    shared, first_update, num_updates = shared
    agent, env = structure.build(shared, varied)

    def update(i, carry):
        state, buffers = carry
        train_state, metrics = train_step(
            agent, env, state.train_state, measure=structure.measure
        )
        broken = is_broken(train_state.agent_state, state.train_state.agent_state)
        breaks = jnp.any(broken) & (state.fault_update < 0)
        frozen = breaks | (state.fault_update >= 0)
        state = RunState(
            _select(frozen, state.train_state, train_state),
            jnp.where(breaks, first_update + i + 1, state.fault_update),
            jnp.where(breaks, jnp.argmax(broken), state.fault_leaf).astype(jnp.int32),
        )
        metrics = _select(frozen, _no_metrics(metrics), metrics)
        buffers = jax.tree.map(lambda b, x: b.at[i].set(x), buffers, metrics)
        return state, buffers

    shapes = _shapes(structure)[1]
    buffers = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)
    # Not scan: one program serves chunks of any length.
    return jax.lax.fori_loop(0, num_updates, update, (state, buffers))


def _select(condition, yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _no_metrics(metrics: Metrics) -> Metrics:
    empty = jax.tree.map(jnp.zeros_like, metrics)

    def nan(x):
        return x + jnp.nan if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return empty._replace(agent=jax.tree.map(nan, empty.agent))


@functools.lru_cache(maxsize=64)
def _shapes(structure: _Structure) -> tuple[RunState, Metrics]:
    """Of one run."""

    def first_update(leaves, key):
        agent, env = jax.tree.unflatten(structure.tree, leaves)
        train_state = init_train(agent, env, key)
        zero = jnp.zeros((), jnp.int32)
        _, metrics = train_step(agent, env, train_state, measure=structure.measure)
        return RunState(train_state, zero, zero), metrics

    return jax.eval_shape(first_update, list(structure.leaves), structure.key)


def _cpu_batch_size(structure: _Structure, share: int) -> int:
    """How many of its `share` of runs a CPU device vmaps together.

    As many as fit a core's cache. But of tables, a few are faster one by one: the loop
    over the steps of a single table is compiled to one kernel.
    """
    agent, _ = jax.tree.unflatten(structure.tree, structure.leaves)
    if getattr(agent, "online", False) and share <= FEW_TABLES:
        return 1
    return max(1, CACHE_BYTES // _working_set(structure))


def _working_set(structure: _Structure) -> int:
    """Bytes that one run's update goes through: its state and its trajectory."""

    def experience(leaves, key):
        agent, env = jax.tree.unflatten(structure.tree, leaves)
        state = init_train(agent, env, key)
        if getattr(agent, "online", False):
            return state
        one = jax.tree.map(lambda x: x[0], state.rollout_state)
        unrolled = rollout.unroll(
            agent, state.agent_state, env, one, state.key, length=agent.rollout_length
        )
        return state, [unrolled[1]] * agent.num_envs

    shapes = jax.eval_shape(experience, list(structure.leaves), structure.key)
    return _bytes(shapes)


def _bytes(shapes: Any) -> int:
    def size(x):
        if is_typed_key(x):
            x = jax.eval_shape(jax.random.key_data, x)
        return x.size * x.dtype.itemsize

    return sum(map(size, jax.tree.leaves(shapes)))


def _arguments(structure: _Structure, layout: Layout) -> tuple[Any, Any]:
    """Shapes and shardings of the shared and the varied leaves."""
    everywhere = NamedSharding(layout.mesh, PartitionSpec())
    leaves = list(zip(structure.leaves, structure.varied, strict=True))
    shared = tuple(
        None if differs else jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere)
        for x, differs in leaves
    )
    varied = tuple(x for x, differs in leaves if differs)
    return shared, _of_all(varied, layout)


def _of_all(shapes: Any, layout: Layout) -> Any:
    runs = NamedSharding(layout.mesh, PartitionSpec("runs"))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            (layout.num_padded, *x.shape), x.dtype, sharding=runs
        ),
        shapes,
    )


@functools.lru_cache(maxsize=16)
def _compile(structure: _Structure, layout: Layout, capacity: int) -> tuple[Any, Any]:
    """The programs that initialise all runs and that advance them."""
    shared, varied = _arguments(structure, layout)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    keys = _of_all(structure.key, layout)
    state = _of_all(_shapes(structure)[0], layout)
    init = jax.jit(layout.map(functools.partial(_init_run, structure)))
    advance = jax.jit(
        layout.map(functools.partial(_advance_run, structure, capacity)),
        donate_argnums=2,
    )
    lowered = [
        init.lower(shared, varied, keys),
        advance.lower((shared, number, number), varied, state),
    ]
    # Side by side, as the compiler leaves cores idle. Not the tracing: settings such as
    # enable_x64 hold for the thread that made them.
    with ThreadPoolExecutor() as pool:
        compiled_init, compiled_advance = pool.map(lambda x: x.compile(), lowered)
    return compiled_init, compiled_advance


@functools.lru_cache(maxsize=16)
def _compile_evaluate(
    structure: _Structure, layout: Layout, num_episodes: int, max_steps: int
) -> Any:
    def evaluate_run(shared, varied, agent_state, key):
        agent, env = structure.build(shared, varied)
        return evaluate(
            agent,
            agent_state,
            env,
            key,
            num_episodes=num_episodes,
            max_steps=max_steps,
        )

    state = _of_all(_shapes(structure)[0].train_state.agent_state, layout)
    keys = _of_all(structure.key, layout)
    lowered = jax.jit(layout.map(evaluate_run)).lower(
        *_arguments(structure, layout), state, keys
    )
    return lowered.compile()


def _memory(compiled: Any, layout: Layout) -> tuple[int, int]:
    """Bytes needed on this process's devices: in all, and for the batches alone."""
    stats = compiled.memory_analysis()
    if stats is None:  # a backend that can't tell
        return 0, 0
    arguments = stats.argument_size_in_bytes + stats.output_size_in_bytes
    arguments -= stats.alias_size_in_bytes
    num_devices = len(layout.mesh.local_devices)
    temporary = stats.temp_size_in_bytes * num_devices
    return arguments * num_devices + temporary, temporary
