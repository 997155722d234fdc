"""The compiled programs of a population: they start, advance and evaluate its runs."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from rljax import contract, rollout
from rljax.evaluation import KeepBest, evaluate
from rljax.experiment.faults import is_broken
from rljax.parallel import Layout
from rljax.random import is_typed_key
from rljax.training import Measure, Metrics, TrainState, init_train, train_step
from rljax.types import Agent, EnvLike, is_buffer, without_buffers

CACHE_BYTES = 2**19
"""Bytes that the runs vmapped together on a CPU may use, about a core's cache."""
FEW_TABLES = 16
"""Up to so many runs of tables per CPU device are trained one by one, not vmapped."""


class RunState(NamedTuple):
    """What one run carries from one update to the next."""

    train_state: TrainState
    """If an update broke the run, the state before that update."""
    fault_update: jax.Array
    """[] int32: the update, counted from 1, that made a number of the agent state NaN
    or infinite and froze the run; 0: there was a NaN from the start; −1: no fault."""
    fault_leaf: jax.Array
    """[] int32: index of the first such leaf of the agent state."""


class Structure(NamedTuple):
    """Everything but the layout that decides what is compiled; hashable."""

    tree: Any
    """The tree structure of (agent, env)."""
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    """Shapes and dtypes of one run's leaves."""
    varied: tuple[bool, ...]
    """Leaf by leaf: whether it differs from run to run."""
    key: jax.ShapeDtypeStruct
    measure: Measure | None
    keep_best: KeepBest | None
    """Both as in `train`."""
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


def _init_run(structure, shared, varied, key):
    agent, env = structure.build(shared, varied)
    train_state = start_run(agent, env, key, structure.keep_best)
    broken = is_broken(train_state.agent_state)
    fault_update = jnp.where(jnp.any(broken), 0, -1).astype(jnp.int32)
    return RunState(train_state, fault_update, jnp.argmax(broken).astype(jnp.int32))


def start_run(
    agent: Agent, env: EnvLike, key: jax.Array, keep_best: KeepBest | None
) -> TrainState:
    """`init_train`, with room for the best agent state if it is to be kept."""
    train_state = init_train(agent, env, key)
    return train_state if keep_best is None else keep_best.start(train_state)


def _advance_run(structure, capacity, shared, varied, state):
    shared, first_update, num_updates = shared
    agent, env = structure.build(shared, varied)

    def update(i, carry):
        state, buffers = carry
        train_state, metrics = train_step(
            agent, env, state.train_state, measure=structure.measure
        )
        if structure.keep_best is not None:
            number = first_update + i + 1
            train_state = structure.keep_best.update(agent, env, train_state, number)
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

    one_update = shapes(structure)[1]
    buffers = jax.tree.map(
        lambda x: jnp.zeros((capacity, *x.shape), x.dtype), one_update
    )
    # A fori_loop, unlike a scan, lets one program serve chunks of any length.
    return jax.lax.fori_loop(0, num_updates, update, (state, buffers))


def _select(condition, yes, no):
    """`yes` where the condition holds, else `no`; of a `Buffer` always `no`.

    A choice copies what it returns, which would be slow for a large buffer. So a frozen
    run goes on filling its buffer, which nobody reads.
    """

    def select(a, b):
        return b if is_buffer(b) else jnp.where(condition, a, b)

    return jax.tree.map(select, yes, no, is_leaf=is_buffer)


def _no_metrics(metrics: Metrics) -> Metrics:
    empty = jax.tree.map(jnp.zeros_like, metrics)

    def nan(x):
        return x + jnp.nan if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return empty._replace(agent=jax.tree.map(nan, empty.agent))


@functools.lru_cache(maxsize=64)
def shapes(structure: Structure) -> tuple[RunState, Metrics]:
    """Shapes and dtypes of one run's state, and of its metrics of one update."""

    def first_update(leaves, key):
        agent, env = jax.tree.unflatten(structure.tree, leaves)
        train_state = start_run(agent, env, key, structure.keep_best)
        zero = jnp.zeros((), jnp.int32)
        _, metrics = train_step(agent, env, train_state, measure=structure.measure)
        return RunState(train_state, zero, zero), metrics

    return jax.eval_shape(first_update, list(structure.leaves), structure.key)


def cpu_batch_size(structure: Structure, share: int) -> int:
    """How many of its `share` of runs a CPU device vmaps together.

    In general it is as many as fit a core's cache. But a few runs of an agent that
    learns after every step, as tables do, are faster one by one, because the loop over
    the steps of a single table is compiled to one kernel.
    """
    agent, _ = jax.tree.unflatten(structure.tree, structure.leaves)
    if agent.rollout_plan.block == 1 and share <= FEW_TABLES:
        return 1
    return max(1, CACHE_BYTES // _working_set(structure))


def _working_set(structure: Structure) -> int:
    """Bytes that one run's update uses: its state and its trajectory.

    The content of a `Buffer` does not count, as an update uses only a few rows of it.
    """

    def experience(leaves, key):
        agent, env = jax.tree.unflatten(structure.tree, leaves)
        plan = contract.require_agent(agent)
        state = init_train(agent, env, key)
        one = jax.tree.map(lambda x: x[0], state.rollout_state)
        _, trajectory, _ = rollout.unroll(
            agent, state.agent_state, env, one, state.key, length=plan.block
        )
        return without_buffers(state), [trajectory] * plan.num_envs

    shapes = jax.eval_shape(experience, list(structure.leaves), structure.key)
    return num_bytes(shapes)


def num_bytes(shapes: Any) -> int:
    """Bytes of a tree of arrays or of their shapes."""

    def size(x):
        if is_typed_key(x):
            x = jax.eval_shape(jax.random.key_data, x)
        return x.size * x.dtype.itemsize

    return sum(map(size, jax.tree.leaves(shapes)))


def _arguments(structure: Structure, layout: Layout) -> tuple[Any, Any]:
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
def compile_training(
    structure: Structure, layout: Layout, capacity: int
) -> tuple[Any, Any]:
    """The programs that initialise all runs and that advance them."""
    shared, varied = _arguments(structure, layout)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    keys = _of_all(structure.key, layout)
    state = _of_all(shapes(structure)[0], layout)
    init = jax.jit(layout.map(functools.partial(_init_run, structure)))
    advance = jax.jit(
        layout.map(functools.partial(_advance_run, structure, capacity)),
        donate_argnums=2,
    )
    lowered = [
        init.lower(shared, varied, keys),
        advance.lower((shared, number, number), varied, state),
    ]
    # The two are compiled in parallel, as the compiler leaves cores idle. Tracing stays
    # in this thread, as settings such as enable_x64 hold only in the thread that made
    # them.
    with ThreadPoolExecutor() as pool:
        compiled_init, compiled_advance = pool.map(lambda x: x.compile(), lowered)
    return compiled_init, compiled_advance


@functools.lru_cache(maxsize=16)
def compile_evaluation(
    structure: Structure,
    layout: Layout,
    num_episodes: int,
    max_steps: int,
    greedy: bool,
) -> Any:
    """The program that plays whole episodes with all runs."""

    def evaluate_run(shared, varied, agent_state, key):
        agent, env = structure.build(shared, varied)
        return evaluate(
            agent,
            agent_state,
            env,
            key,
            num_episodes=num_episodes,
            max_steps=max_steps,
            greedy=greedy,
        )

    state = without_buffers(shapes(structure)[0].train_state.agent_state)
    state = _of_all(state, layout)
    keys = _of_all(structure.key, layout)
    lowered = jax.jit(layout.map(evaluate_run)).lower(
        *_arguments(structure, layout), state, keys
    )
    return lowered.compile()


def memory(compiled: Any, layout: Layout) -> tuple[int, int]:
    """Bytes needed on this process's devices: all, and those of temporary arrays."""
    stats = compiled.memory_analysis()
    if stats is None:  # a backend that does not report it
        return 0, 0
    arguments = stats.argument_size_in_bytes + stats.output_size_in_bytes
    arguments -= stats.alias_size_in_bytes
    num_devices = len(layout.mesh.local_devices)
    temporary = stats.temp_size_in_bytes * num_devices
    return arguments * num_devices + temporary, temporary
