"""The loop on the host that drives a sweep's compiled programs, chunk by chunk."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from rljax.evaluation import Evaluation, KeepBest
from rljax.experiment import settings
from rljax.experiment.checkpoint import CheckpointError, Checkpoints
from rljax.experiment.faults import Fault, locate_nan
from rljax.experiment.fingerprint import check_same
from rljax.experiment.population import Population, state_bytes, structure_of
from rljax.experiment.reports import RUN_COLUMNS, Report, updates_at
from rljax.experiment.results import Outcome, SweepResult
from rljax.experiment.settings import Expansion
from rljax.training import Measure, Metrics

CHUNK_SECONDS = 0.5
"""How long a chunk of updates should take; callbacks are called after each chunk."""


class Runner:
    """The populations of a sweep, one per compiled program, and what they have done."""

    def __init__(
        self,
        expansion: Expansion,
        keys: jax.Array,
        num_updates: int,
        *,
        equal_steps: bool = False,
        devices: Sequence[Any] | None,
        batch_sizes: Sequence[int | None] | int | None,
        memory_budget: int,
        identity: dict[str, Any],
        measure: Measure | None = None,
        keep_best: KeepBest | None = None,
        resumed: bool = False,
    ):
        """Compiles the training; see `sweep` for the arguments.

        Raises:
          ValueError: a metric has the name of one of `reports.RUN_COLUMNS`.
        """
        groups: dict[Any, list[int]] = {}
        for index, pair in enumerate(expansion.built):
            groups.setdefault(structure_of(pair), []).append(index)
        self.expansion = expansion
        self.num_seeds = len(keys)
        self.num_updates = num_updates
        self.equal_steps = equal_steps
        self.steps = [agent.rollout_plan.num_steps for agent, _ in expansion.built]
        self.num_devices = len(devices or jax.devices())
        self.identity = identity
        self.resumed = resumed
        self.done = 0
        self.faults: list[Fault] = []
        self.groups = list(groups.values())
        pairs = [[expansion.built[i] for i in group] for group in self.groups]
        # The states of all populations stay on the devices. The rest of the memory
        # serves one program at a time.
        share = len(jax.local_devices()) / jax.device_count()
        runs = len(keys) * share
        sizes = [state_bytes(p[0], keys, keep_best) * len(p) * runs for p in pairs]
        if batch_sizes is None or isinstance(batch_sizes, int):
            batch_sizes = [batch_sizes] * len(pairs)
        self.populations = [
            Population(
                p,
                keys,
                devices=devices,
                batch_size=batch_size,
                memory_budget=memory_budget,
                reserved=int(sum(sizes) - size),
                measure=measure,
                keep_best=keep_best,
            )
            for p, size, batch_size in zip(pairs, sizes, batch_sizes, strict=True)
        ]
        for population in self.populations:
            for name in RUN_COLUMNS:
                if name in population.metrics_shapes().agent:
                    raise ValueError(
                        f"{name!r} can't be the name of a metric, of `measure` or of "
                        "the agent: a sweep's rows have that column. Rename it."
                    )
        self.history = self._empty_histories(num_updates)

    def start(self) -> None:
        """Initialises every run."""
        for population in self.populations:
            population.start()

    def save(self, checkpoints: Checkpoints) -> None:
        """Writes a checkpoint of all that `restore` needs."""
        states = [p.to_host() for p in self.populations]
        history = self._parts(0, self.done)
        description = {
            "identity": self.identity,
            "jax": jax.__version__,
            "num_devices": self.num_devices,
            "batch_sizes": [p.layout.batch_size for p in self.populations],
        }
        checkpoints.save(self.done, (states, history), description)

    def restore(self, checkpoints: Checkpoints) -> None:
        """Goes on from the last checkpoint that can be used.

        Raises:
          CheckpointError: there is none, or it is of another run.
        """

        def like(step):
            there = checkpoints.describe(step).get("identity")
            check_same(checkpoints.folder, there, self.identity)
            states = [p.host_shapes() for p in self.populations]
            return states, self._empty_histories(step)

        found = checkpoints.restore(like)
        if jax.process_count() > 1:
            steps = multihost_utils.process_allgather(np.array(found.step))
            if len(set(steps.tolist())) > 1:
                raise CheckpointError(
                    f"processes see different checkpoints in {checkpoints.folder}, of "
                    f"updates {steps.tolist()}. It must be one folder for all of them."
                )
        for reason in found.skipped:
            warnings.warn(f"passed over a checkpoint: {reason}", stacklevel=4)
        states, history = found.tree
        for population, state in zip(self.populations, states, strict=True):
            population.from_host(state)
        for whole, part in zip(self.history, history, strict=True):
            _fill(whole, 0, part)
        self.done = found.step

    def train(
        self,
        callbacks: Sequence[Callable[[Report], Any]],
        checkpoints: Checkpoints | None,
        stop: Callable[[], bool] | None,
        debug: bool,
    ) -> bool:
        """Does the updates that are left; returns whether `stop` ended it early."""
        length, saved = 1, self.done
        longest = min(p.max_chunk for p in self.populations)
        self._report_faults(debug)
        if self.done:
            error = self._call(callbacks, checkpoints, 0, seconds=float("nan"))
            _agree(length, False, False, error)
        while self.done < self.num_updates:
            first, start = self.done, time.perf_counter()
            self._advance(min(length, self.num_updates - self.done))
            seconds = time.perf_counter() - start
            self._report_faults(debug)
            error = self._call(callbacks, checkpoints, first, seconds)
            # The next chunk is to take CHUNK_SECONDS; no result depends on its length.
            length = int(length * min(2.0, CHUNK_SECONDS / seconds))
            length, due, stopped = _agree(
                max(1, min(length, longest)),
                checkpoints is not None and checkpoints.due(),
                stop is not None and stop(),
                error,
            )
            last = stopped or self.done == self.num_updates
            if checkpoints is not None and (due or last) and saved < self.done:
                self.save(checkpoints)
                saved = self.done
            if stopped:
                break
        return self.done < self.num_updates

    def result(
        self, evaluations: Sequence[Evaluation] | None = None, *, buffers: bool = False
    ) -> SweepResult:
        """What was done so far, by setting; `evaluations` has one per population."""
        on_host = [p.to_host(buffers=buffers) for p in self.populations]
        states = self._by_setting(on_host)
        metrics = self._by_setting(self._parts(0, self.done))
        evaluated: list[Any] = [None] * len(states)
        if evaluations is not None:
            evaluated = self._by_setting(evaluations)
        outcomes = []
        for i, setting in enumerate(self.expansion.settings):
            agent, env = self.expansion.built[i]
            outcome = Outcome(
                setting=setting,
                agent=agent,
                env=env,
                train_state=states[i].train_state,
                metrics=metrics[i],
                evaluation=evaluated[i],
                fault_updates=states[i].fault_update,
            )
            outcomes.append(outcome)
        return SweepResult(
            self.expansion.axes, tuple(outcomes), self.done, tuple(self.faults)
        )

    def _advance(self, num_updates: int) -> None:
        last = self.done + num_updates
        for i, population in enumerate(self.populations):
            done, due = self._updates(i, self.done), self._updates(i, last)
            if due > done:
                _fill(self.history[i], done, population.advance(done, due - done))
        self.done = last

    def _updates(self, index: int, number: int) -> int:
        """The updates of a population when the one with the shortest has done so many.

        They are the same for all, unless steps are to be equal.
        """
        if not self.equal_steps:
            return number
        return updates_at(number, self.steps, self.groups[index][0])

    def _empty_histories(self, number: int) -> list[Metrics]:
        return [
            _empty_history(p, self._updates(i, number))
            for i, p in enumerate(self.populations)
        ]

    def _parts(self, first: int, last: int) -> list[Metrics]:
        """The metrics of each population between two numbers of updates."""
        return [
            _part(h, self._updates(i, first), self._updates(i, last))
            for i, h in enumerate(self.history)
        ]

    def _by_setting(self, trees: Sequence[Any]) -> list[Any]:
        """Splits leaves [num_runs, …] of each population into [num_seeds, …]."""
        parts: list[Any] = [None] * len(self.expansion.settings)
        for group, tree in zip(self.groups, trees, strict=True):
            for i, index in enumerate(group):
                rows = slice(i * self.num_seeds, (i + 1) * self.num_seeds)
                parts[index] = jax.tree.map(lambda x, rows=rows: x[rows], tree)
        return parts

    def _report_faults(self, debug: bool) -> None:
        """Warns of runs that broke since the last call, or raises with `debug`."""
        known = set(self.faults)
        faults = [fault for fault in self._all_faults() if fault not in known]
        if not faults:
            return
        self.faults += faults
        if debug:
            self._raise_where(min(faults, key=lambda fault: fault.update))
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        text = "; ".join(map(str, faults[:3]))
        warnings.warn(f"{text}{more}", RuntimeWarning, stacklevel=5)

    def _raise_where(self, fault: Fault) -> NoReturn:
        """Repeats the update that broke a run, and raises an error that says where."""
        where = None
        if fault.update > 0:
            labels = [settings.label(s) for s in self.expansion.settings]
            index = labels.index(fault.setting)
            states = self._by_setting([p.to_host() for p in self.populations])
            state = jax.tree.map(
                lambda x: jnp.asarray(x[fault.seed]), states[index].train_state
            )
            where = locate_nan(*self.expansion.built[index], state, max_updates=1)
            where = where or (
                "Done again, the update made no NaN: a number became infinite, or a "
                "Buffer, which goes on after a fault, was another one then."
            )
        raise FloatingPointError("\n".join(filter(None, [f"{fault}.", where])))

    def _all_faults(self) -> list[Fault]:
        faults = []
        for group, population in zip(self.groups, self.populations, strict=True):
            updates, leaves = population.faults()
            for run in np.flatnonzero(updates >= 0):
                i, seed = divmod(int(run), self.num_seeds)
                label = settings.label(self.expansion.settings[group[i]])
                leaf = population.leaf_name(int(leaves[run]))
                faults.append(Fault(label, seed, int(updates[run]), leaf))
        return faults

    def _call(
        self,
        callbacks: Sequence[Callable[[Report], Any]],
        checkpoints: Checkpoints | None,
        first: int,
        seconds: float,
    ) -> Exception | None:
        """Calls the callbacks with a report; returns the exception if one fails."""
        if not callbacks or jax.process_index() != 0:
            return None
        metrics = self._by_setting(self._parts(first, self.done))
        pairs = zip(metrics, self.steps, strict=True)
        num_steps = sum(m.num_episodes.size * steps for m, steps in pairs)
        report = Report(
            settings=self.expansion.settings,
            metrics=tuple(metrics),
            steps_per_update=tuple(self.steps),
            first_update=first,
            num_updates=self.done,
            total_updates=self.num_updates,
            steps_per_second=num_steps / seconds,
            faults=tuple(self.faults),
            resumed=self.resumed,
            equal_steps=self.equal_steps,
        )
        for callback in callbacks:
            try:
                callback(report)
            except OSError as error:
                name = getattr(callback, "__qualname__", type(callback).__qualname__)
                text = (
                    f"{name} could not write after update {self.done}: "
                    f"{str(error).rstrip('.')}. {_what_is_saved(checkpoints)}"
                )
                code = [] if error.errno is None else [error.errno]
                wrapped = OSError(*code, text)
                wrapped.__cause__ = error
                return wrapped
            except Exception as error:
                return error
        return None


def _empty_history(population: Population, num_updates: int) -> Metrics:
    """Metrics of all runs, leaves [num_runs, num_updates, …]."""
    shape = (population.num_runs, num_updates)
    return jax.tree.map(
        lambda x: np.zeros((*shape, *x.shape), x.dtype), population.metrics_shapes()
    )


def _part(history: Metrics, first: int, last: int) -> Metrics:
    return jax.tree.map(lambda x: x[:, first:last], history)


def _fill(history: Metrics, first: int, part: Metrics) -> None:
    """Writes `part` into `history` from update `first` on."""
    arrays = zip(jax.tree.leaves(history), jax.tree.leaves(part), strict=True)
    for whole, new in arrays:
        whole[:, first : first + new.shape[1]] = new


def _agree(
    length: int, due: bool, stopped: bool, error: Exception | None
) -> tuple[int, bool, bool]:
    """What the first process has decided; clocks and signals differ between processes.

    Raises:
      Exception: `error`; or a RuntimeError if it was the first process that had one.
    """
    failed = error is not None
    if jax.process_count() > 1:
        decided = np.array([length, due, stopped, failed], np.int32)
        decided = multihost_utils.broadcast_one_to_all(decided)
        length, due, stopped, failed = (x.item() for x in decided)
    if error is not None:
        raise error
    if failed:
        raise RuntimeError("a callback of the first process has failed; see there.")
    return length, bool(due), bool(stopped)


def _what_is_saved(checkpoints: Checkpoints | None) -> str:
    steps = checkpoints.steps() if checkpoints is not None else []
    if not steps:
        return "No checkpoint had been saved."
    return f"The last checkpoint is update {steps[-1]}; resume from it."
