"""Many runs in one call: agents × settings × environments × seeds."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils

from rljax import checks, random
from rljax.evaluation import Evaluation, KeepBest
from rljax.experiment import signals
from rljax.experiment.checkpoint import CheckpointError, Checkpoints
from rljax.experiment.fingerprint import check_same, describe
from rljax.experiment.population import CONFIG
from rljax.experiment.reports import Report, updates_at
from rljax.experiment.results import Procedure, SweepResult
from rljax.experiment.runner import Runner
from rljax.experiment.settings import Expansion, expand, label
from rljax.parallel import check_devices
from rljax.training import (
    Measure,
    Metrics,
    TrainState,
    check_keep_best,
    check_measure,
    count_updates,
    warn_if_no_episode_ended,
)
from rljax.types import Agent, EnvLike

CPU_MEMORY_BUDGET = 2**31


def sweep(
    agent: Agent | Mapping[str, Agent],
    env: EnvLike | Mapping[str, EnvLike],
    key: jax.Array,
    *,
    num_seeds: int,
    num_updates: int | None = None,
    num_steps: int | None = None,
    settings: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | None = None,
    num_episodes: int = 0,
    max_steps: int = 10_000,
    greedy: bool = True,
    measure: Measure | None = None,
    keep_best: KeepBest | None = None,
    devices: Sequence[Any] | None = None,
    batch_size: int | None = None,
    memory_budget: int | None = None,
    callbacks: Sequence[Callable[[Report], Any]] = (),
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop: Callable[[], bool] | None = None,
    debug: bool = False,
) -> SweepResult:
    """Trains every setting with every seed, then evaluates.

    Seed j of every setting is `train(agent, env, keys[j], num_updates=…)` within
    float tolerance, with keys = jax.random.split(jax.random.split(key)[0], num_seeds).
    All settings share these keys, so that the results of a seed differ by the setting
    alone.

    Settings that differ only in floats (or other leaves) share one compiled program;
    those that differ in structure have one each. A later sweep in which the same leaves
    have other values compiles nothing. A run whose parameters become NaN or infinite is
    frozen in the state before that update, with a warning. All other runs go on and
    give bitwise what they would have given without it.

    The same key on the same devices gives bitwise the same result, however often the
    sweep was stopped and resumed. With another number of devices or another
    `batch_size`, the result is the same within float tolerance.

    Args:
      agent, env: one, or alternatives by name.
      key: random key.
      num_seeds: runs of each setting, 1 or more.
      num_updates: updates of each run, 0 or more. Where the settings' updates differ in
        length, so do their environment steps, and a warning says so.
      num_steps: in its place, environment steps of each run. The setting with the
        shortest updates does as many as take at least so many steps, every other one
        the number that comes nearest to that.
      settings: a grid {"learning_rate": [1e-3, 3e-3], "env.gravity": [9.8, 20.0]}, or a
        list of settings [{"learning_rate": 1e-3}, …]; see `rljax.experiment.settings`.
      num_episodes: episodes per run after training, 0 for none.
      max_steps: steps after which such an episode is cut. A warning says how many were,
        and so does `Outcome.num_cut`.
      greedy: whether the greedy policy plays them, or else the one that explores in
        training; see `evaluate`.
      measure: a pure function of (agent, env, agent_state) that returns scalars by
        name, which join the metrics of each update; see `train`. A name in
        `reports.RUN_COLUMNS` is refused; one that is also a setting's name becomes
        "<name>_metric" in a report's rows.
      keep_best: how often to compare agent states, and by what; see `train`. The best
        ones, in each outcome's `train_state.best`, then play the episodes after
        training instead of the last ones. Those are fresh episodes, so their returns
        are not biased by the choice.
      devices: where to run, by default all devices of all processes.
      batch_size: runs that one device vmaps together; by default as many as fit a
        core's cache on a CPU and all elsewhere, or fewer if memory is short.
      memory_budget: bytes on this process's devices for the training; by default 2 GiB
        on a CPU and 90 % of the free memory elsewhere. The evaluation needs more memory
        besides, for `num_episodes` at once.
      callbacks: functions that the first process calls with a `Report`: after each
        chunk of updates (about half a second, or one update if that takes longer) and,
        after a resume, once with all that was done before. One that is a context
        manager is entered before the sweep and left after it; one that has a method
        `prepare(resumed)` can refuse the sweep before anything is compiled.
      checkpoints: where to save everything that a resume needs: at the interval set
        there, after the last update, and when the sweep is stopped, by `stop`, Ctrl-C
        or SIGTERM. After such a signal it ends as the signal asks, once all is saved; a
        second one ends it at once.
      resume: whether to go on from the last checkpoint, if there is one. It must be of
        the same agents, environments, settings, number of seeds, key, `measure` and
        `keep_best`; `num_updates` may be larger.
      stop: called after each chunk, without arguments; the first process decides. Once
        it returns True, the sweep saves and returns what is done, without an evaluation
        unless all updates are done.
      debug: whether to raise an error that says where the first NaN arises, instead of
        only freezing the run. It is also on if JAX's own jax_debug_nans or
        jax_debug_infs is set.

    Returns:
      All runs, by setting and seed.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
      FileExistsError: there are checkpoints already, but `resume` is False.
      CheckpointError: the checkpoint can't be used; see the message.
      MemoryError: not even one run at a time fits the budget.
      OSError: a checkpoint or a callback's file could not be written. What was saved
        before is intact.
      FloatingPointError: with `debug`, at the first fault.
      KeyboardInterrupt: Ctrl-C; with `checkpoints`, the message says what was saved.
    """
    checks.boolean("greedy", greedy)
    most = checks.LARGEST_INT
    num_seeds = checks.integer("num_seeds", num_seeds, minimum=1, maximum=most)
    num_episodes = checks.integer("num_episodes", num_episodes, minimum=0)
    max_steps = checks.integer("max_steps", max_steps, minimum=1, maximum=most)
    if batch_size is not None:
        batch_size = checks.integer("batch_size", batch_size, minimum=1)
    _check_host_arguments("sweep", key, callbacks, checkpoints, resume, stop, debug)

    key_train, key_evaluate = jax.random.split(key)

    def evaluate(runner: Runner) -> list[Evaluation]:
        keys = jax.random.split(key_evaluate, num_seeds)
        arguments = (keys, num_episodes, max_steps, greedy)
        return [p.evaluate(*arguments) for p in runner.populations]

    result = _drive(
        expand(agent, env, settings),
        key,
        jax.random.split(key_train, num_seeds),
        num_updates,
        num_steps,
        evaluate=evaluate if num_episodes else None,
        measure=measure,
        keep_best=keep_best,
        devices=devices,
        batch_size=batch_size,
        memory_budget=memory_budget,
        callbacks=callbacks,
        checkpoints=checkpoints,
        resume=resume,
        stop=stop,
        debug=debug,
    )
    _warn_of_cut_episodes(result, max_steps)
    shortest = min(outcome.steps_per_update for outcome in result.outcomes)
    procedure = Procedure(
        key=key,
        num_updates=count_updates(shortest, num_updates, num_steps),
        num_episodes=num_episodes,
        max_steps=max_steps,
        greedy=greedy,
        measure=measure,
        keep_best=keep_best,
        devices=devices,
        batch_size=batch_size,
        memory_budget=memory_budget,
    )
    return dataclasses.replace(result, procedure=procedure)


def run(
    agent: Agent,
    env: EnvLike,
    key: jax.Array,
    *,
    num_updates: int | None = None,
    num_steps: int | None = None,
    measure: Measure | None = None,
    keep_best: KeepBest | None = None,
    callbacks: Sequence[Callable[[Report], Any]] = (),
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop: Callable[[], bool] | None = None,
    debug: bool = False,
) -> tuple[TrainState, Metrics]:
    """Trains once, as `train` does, but in chunks: with progress and checkpoints.

        rljax.run(agent, env, key, num_updates=200, callbacks=[ProgressBar()])

    It returns what `train` returns for this key, within float tolerance. Another number
    of updates compiles nothing anew. It is a loop on the host, so it can't be jitted,
    vmapped or differentiated: `train` can.

    Args:
      agent, env, key, num_updates, num_steps, measure, keep_best: as of `train`.
      callbacks, checkpoints, resume, stop, debug: as of `sweep`.

    Returns:
      The final state, and metrics with leaves [num_updates].

    Raises:
      As `sweep`.
    """
    _check_host_arguments("run", key, callbacks, checkpoints, resume, stop, debug)
    result = _drive(
        expand(_lone("agent", agent), _lone("env", env)),
        key,
        key[None],
        num_updates,
        num_steps,
        lone=True,
        measure=measure,
        keep_best=keep_best,
        callbacks=callbacks,
        checkpoints=checkpoints,
        resume=resume,
        stop=stop,
        debug=debug,
    )
    (outcome,) = result.outcomes
    found = outcome.train_state, outcome.metrics
    return jax.tree.map(lambda x: jnp.asarray(x[0]), found)


def _lone(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        raise TypeError(f"{name} must be one, got {list(value)!r}. Sweep over several.")
    return value


def _drive(
    expansion: Expansion,
    key: jax.Array,
    keys: jax.Array,
    num_updates: int | None,
    num_steps: int | None,
    *,
    evaluate: Callable[[Runner], list[Evaluation]] | None = None,
    lone: bool = False,
    measure: Measure | None,
    keep_best: KeepBest | None,
    devices: Sequence[Any] | None = None,
    batch_size: int | None = None,
    memory_budget: int | None = None,
    callbacks: Sequence[Callable[[Report], Any]],
    checkpoints: Checkpoints | None,
    resume: bool,
    stop: Callable[[], bool] | None,
    debug: bool,
) -> SweepResult:
    """What `sweep` and `run` do once their arguments are known to be of the right kind.

    Args:
      key: what a checkpoint remembers of the random numbers.
      keys: [num_seeds] of training.
      evaluate: plays what `Outcome.evaluation` holds, or None.
      lone: whether it is for `run`: the states keep the content of their buffers.
    """
    check_measure(measure)
    steps = [agent.rollout_plan.num_steps for agent, _ in expansion.built]
    equal_steps = num_steps is not None and len(set(steps)) > 1
    num_updates = count_updates(min(steps), num_updates, num_steps)
    fewest = _fewest_updates(expansion, steps, num_updates, num_steps)
    check_keep_best(keep_best, checks.LARGEST_INT)
    identity = {}
    if checkpoints is not None:
        functions = {"measure": measure, "keep_best": keep_best}
        identity = _identity(expansion, len(keys), key, functions)
        identity |= {"equal_steps": True} if equal_steps else {}
        identity |= {"run": True} if lone else {}  # its key is used in another way
    if devices is not None:
        devices = check_devices(devices)
    saved = _saved(checkpoints, resume, identity, num_updates)
    if saved is None:  # what has been begun may be looked at before it is far enough
        _require_updates(expansion, steps, fewest, num_steps)
        check_keep_best(keep_best, fewest)
    batch_sizes: Any = batch_size
    num_devices = len(devices or jax.devices())
    if batch_size is None and saved is not None and saved["num_devices"] == num_devices:
        batch_sizes = saved["batch_sizes"]  # another size would round differently
    if memory_budget is None:
        memory_budget = _default_budget(devices)
    memory_budget = checks.integer("memory_budget", memory_budget, minimum=1)
    own_callbacks = callbacks if jax.process_index() == 0 else ()
    for callback in own_callbacks:
        prepare = getattr(callback, "prepare", None)
        if prepare is not None:
            prepare(resume)
    debug = debug or jax.config.jax_debug_nans or jax.config.jax_debug_infs  # pyright: ignore[reportAttributeAccessIssue]
    # The programs are compiled ahead of time, and frozen runs report NaN on purpose.
    with contextlib.ExitStack() as stack:
        for context in (jax.disable_jit, jax.debug_nans, jax.debug_infs):
            stack.enter_context(context(False))
        for callback in own_callbacks:
            if isinstance(callback, contextlib.AbstractContextManager):
                stack.enter_context(callback)
        runner = Runner(
            expansion,
            keys,
            num_updates,
            equal_steps=equal_steps,
            devices=devices,
            batch_sizes=batch_sizes,
            memory_budget=memory_budget,
            identity=identity,
            measure=measure,
            keep_best=keep_best,
            resumed=resume,
        )
        if checkpoints is not None and saved is not None:
            runner.restore(checkpoints)
        else:
            runner.start()
        with _saving_at_signals(checkpoints) as asked:

            def ends() -> bool:
                return asked.is_set() or (stop is not None and stop())

            stopped = runner.train(callbacks, checkpoints, ends, debug)
        alone = jax.process_count() == 1
        ended_by = asked.number if stopped or alone else None
        played = None
        if evaluate is not None and not stopped and ended_by is None:
            played = evaluate(runner)
        result = runner.result(played, buffers=lone)
    if ended_by is not None and checkpoints is not None:
        signals.end(
            ended_by,
            f"Stopped after update {runner.done} of {num_updates}, which is saved in "
            f"{checkpoints.folder}. Go on from there with resume=True.",
        )
    for outcome in result.outcomes:
        where = f"in setting {outcome.label!r} "
        warn_if_no_episode_ended(outcome.agent, outcome.metrics, where, stacklevel=4)
    return result


def _fewest_updates(
    expansion: Expansion, steps: list[int], num_updates: int, num_steps: int | None
) -> int:
    """The fewest updates that a setting does; warns where the steps differ."""
    names = [label(setting) for setting in expansion.settings]
    short, long = np.argmin(steps), np.argmax(steps)
    if num_steps is None:
        if steps[short] < steps[long] and num_updates:
            warnings.warn(
                f"settings differ in environment steps: {names[long]!r} does "
                f"{num_updates * steps[long]:,}, {names[short]!r} "
                f"{num_updates * steps[short]:,}. Pass num_steps= in the place of "
                "num_updates= to compare them after as many steps.",
                stacklevel=4,
            )
        return num_updates
    return updates_at(num_updates, steps, int(long))


def _require_updates(
    expansion: Expansion, steps: list[int], fewest: int, num_steps: int | None
) -> None:
    """Raises ValueError where `num_steps` are too few for an update of some setting."""
    if num_steps and not fewest:
        long = int(np.argmax(steps))
        name = label(expansion.settings[long])
        raise ValueError(
            f"num_steps must be at least those of one update, {steps[long]:,} of "
            f"setting {name!r}, got {num_steps:,}."
        )


def _saving_at_signals(
    checkpoints: Checkpoints | None,
) -> contextlib.AbstractContextManager[signals.Asked]:
    """Defers signals to a moment when all can be saved, if it can be at all."""
    if checkpoints is None:
        return contextlib.nullcontext(signals.Asked())
    return signals.deferred()


def _check_host_arguments(
    who: str,
    key: Any,
    callbacks: Any,
    checkpoints: Any,
    resume: Any,
    stop: Any,
    debug: Any,
) -> None:
    """Raises TypeError or ValueError unless these arguments suit a loop on the host."""
    checks.boolean("resume", resume)
    checks.boolean("debug", debug)
    if isinstance(key, Tracer):
        raise TypeError(
            f"{who} is a loop on the host and can't be jitted, vmapped or "
            "differentiated. Transform rljax.train instead."
        )
    listed = isinstance(callbacks, Sequence)
    if not listed or not all(map(callable, callbacks)):
        raise TypeError(
            f"callbacks must be a list of functions of a report, got {callbacks!r}."
        )
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise TypeError(
            "checkpoints must be a rljax.experiment.Checkpoints(folder), got "
            f"{checkpoints!r}."
        )
    if resume and checkpoints is None:
        raise ValueError(
            "resume needs the checkpoints to go on from: "
            "checkpoints=rljax.experiment.Checkpoints(folder)."
        )
    if stop is not None and not callable(stop):
        raise TypeError(f"stop must be a function without arguments, got {stop!r}.")
    checks.key(key)
    if random.words_depend_on_batch(key):
        warnings.warn(
            f"{who} was given a key of kind {jax.random.key_impl(key)!r}, whose words "
            "under vmap depend on how runs are batched: results will depend on "
            "batch_size and devices. Keys of jax.random.key(seed) don't.",
            stacklevel=3,
        )


def _saved(
    checkpoints: Checkpoints | None,
    resume: bool,
    identity: dict[str, Any],
    num_updates: int,
) -> dict[str, Any] | None:
    """The description of the last checkpoint, checked against what is asked for.

    This is done before anything is compiled, so that a mistake shows without that wait.
    """
    steps = [] if checkpoints is None else checkpoints.steps()
    if checkpoints is None or not steps:
        return None
    if not resume:
        raise FileExistsError(
            f"{checkpoints.folder} holds checkpoints already. Pass resume=True to go "
            "on from them, or choose another folder."
        )
    for step in reversed(steps):
        try:
            saved = checkpoints.describe(step)
        except CheckpointError as error:
            if checkpoints.fall_back and step != steps[0]:
                continue
            if step != steps[0]:
                raise CheckpointError(
                    f"{str(error).rstrip('.')}. Pass fall_back=True (--fall-back) to "
                    "go on from an older checkpoint."
                ) from error
            raise
        check_same(checkpoints.folder, saved.get("identity"), identity)
        if step > num_updates:
            raise CheckpointError(
                f"{checkpoints.folder / str(step)} is of update {step}, but "
                f"num_updates is {num_updates}. Ask for as many or more."
            )
        if saved.get("jax") != jax.__version__:
            warnings.warn(
                f"{checkpoints.folder / str(step)} was saved with jax "
                f"{saved.get('jax')}, this is {jax.__version__}: what is done from "
                "here on may differ from an uninterrupted run by more than rounding.",
                stacklevel=5,
            )
        return saved
    return None


def _warn_of_cut_episodes(result: SweepResult, max_steps: int) -> None:
    cut = [
        f"{outcome.num_cut.sum()} of {np.size(outcome.evaluation.finished)} of setting "
        f"{outcome.label!r}"
        for outcome in result.outcomes
        if outcome.evaluation is not None and outcome.num_cut.any()
    ]
    if cut:
        more = f" (and {len(cut) - 3} more settings)" if len(cut) > 3 else ""
        warnings.warn(
            f"evaluation episodes were cut after max_steps={max_steps} steps: "
            f"{', '.join(cut[:3])}{more}. Their returns are those of these steps "
            "alone. Pass a larger max_steps=, or an environment with a limit of its "
            "own: rljax.TimeLimit(env, …).",
            stacklevel=3,
        )


def _identity(
    expansion: Expansion, num_seeds: int, key: jax.Array, functions: dict[str, Any]
) -> dict[str, Any]:
    """What must be the same in a checkpoint for a sweep to go on from it, as JSON.

    Raises:
      TypeError: a part can't be described, see `fingerprint.describe`.
    """
    given = {n: describe(x, n) for n, x in functions.items() if x is not None}
    agents, envs = zip(*expansion.built, strict=True)
    return given | {
        "settings": [label(setting) for setting in expansion.settings],
        "agents": [describe(x, f"agents[{i}]") for i, x in enumerate(agents)],
        "envs": [describe(x, f"envs[{i}]") for i, x in enumerate(envs)],
        "num_seeds": num_seeds,
        "key": describe(key),
        "key_dtype": str(key.dtype),
        "jax_settings": {n: describe(getattr(jax.config, n), n) for n in CONFIG},
    }


def _default_budget(devices: Sequence[Any] | None) -> int:
    """The default memory budget: the least, in bytes, that any process has."""
    local = [d for d in devices or jax.devices() if d in jax.local_devices()]
    stats = [device.memory_stats() for device in local if device.platform != "cpu"]
    if any(device.platform == "cpu" for device in local):
        budget = CPU_MEMORY_BUDGET
    elif all(stats):
        budget = int(sum(0.9 * (s["bytes_limit"] - s["bytes_in_use"]) for s in stats))
    else:
        budget = 2**62  # a backend that does not report it
    if jax.process_count() > 1:
        mebibytes = np.array(min(budget >> 20, 2**31 - 1), np.int32)
        budget = int(multihost_utils.process_allgather(mebibytes).min()) << 20
    return budget
