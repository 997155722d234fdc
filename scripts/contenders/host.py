"""Starts workers, runs them in turn, and makes the neighbours' environments."""

import contextlib
import dataclasses
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NEIGHBOURS = {
    # gymnax 1.0.1 needs six without saying so, and rejax breaks with gymnax 1.0.
    "gymnax": ("gymnax", ["gymnax>=1.0", "six"]),
    "rejax": ("rejax", ["rejax==0.1.3", "gymnax==0.0.9"]),
    "sb3": ("stable_baselines3", ["stable-baselines3>=2.3"]),
}
"""By name: what is imported, and what is installed."""


class WorkerError(RuntimeError):
    """A worker that died, took too long, or did not do its work."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """One program that does a task its own way."""

    name: str
    script: Path
    task: Mapping[str, Any]
    python: str = sys.executable
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of its process's environment."""
    repeats: int | None = None
    """Timed runs at most; None: as many as the others'."""


@dataclasses.dataclass(frozen=True)
class Home:
    """Where a neighbour runs: its Python, and what its process is told."""

    python: str
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Result:
    """What became of a contender."""

    ready: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """One per start of the worker."""
    runs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    peak_mib: float | None = None
    failed: str | None = None
    """Why there is nothing more."""


class Worker:
    """A contender's process, which is ended in any case."""

    def __init__(self, contender: Contender, time_limit: float):
        self.started = time.perf_counter()
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 (see close)
        self.time_limit = time_limit
        self.process = subprocess.Popen(
            [contender.python, str(contender.script), json.dumps(contender.task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            encoding="utf-8",
            env=variables(contender.python) | dict(contender.variables),
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.put(line)
        self.lines.put("")

    def hear(self) -> dict[str, Any]:
        """The next answer."""
        try:
            line = self.lines.get(timeout=self.time_limit)
        except queue.Empty:
            raise WorkerError(f"no answer in {self.time_limit:.0f} s") from None
        if not line:
            self.process.wait()
            raise WorkerError(f"died: {self._last_words()}")
        return json.loads(line)

    def ask(self, request: str) -> dict[str, Any]:
        """The answer to a request."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `hear` says why
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        return self.hear()

    def stop(self) -> tuple[float, float | None]:
        """Lets it end: seconds since its start, and its peak memory in MiB."""
        peak_mib = self.ask("stop")["peak_mib"]
        self.process.wait(self.time_limit)
        return time.perf_counter() - self.started, peak_mib

    def close(self) -> None:
        """Ends the process if it still runs."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.stderr.close()

    def _last_words(self) -> str:
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return words[-1] if words else f"status {self.process.returncode}"


def variables(python: str) -> dict[str, str]:
    """The process environment of a contender, without what could favour one."""
    kept = dict(os.environ)
    for name in ("PYTHONPATH", "JAX_COMPILATION_CACHE_DIR"):
        kept.pop(name, None)
    if python == sys.executable:
        kept["PYTHONPATH"] = str(ROOT)
    # Several processes share a GPU, of which the first would else take the most.
    kept.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return kept


@contextlib.contextmanager
def noted(result: Result) -> Iterator[None]:
    """Failures become the result's."""
    try:
        yield
    except (WorkerError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        result.failed = str(error)


def race(
    contenders: Sequence[Contender], repeats: int, *, time_limit: float, starts: int = 1
) -> dict[str, Result]:
    """Runs in turn, so that a slow moment of the machine hits all contenders.

    They are started one after another, `starts` times, of which the last process runs.
    """
    results = {contender.name: Result() for contender in contenders}
    workers: dict[str, Worker] = {}
    with contextlib.ExitStack() as stack:
        for start in range(starts):
            for contender in contenders:
                result = results[contender.name]
                if result.failed:
                    continue
                worker = Worker(contender, time_limit)
                stack.callback(worker.close)
                with noted(result):
                    result.ready.append(worker.hear())
                    if start < starts - 1:
                        worker.stop()
                workers[contender.name] = worker
        for number in range(repeats):
            for contender in contenders:
                result = results[contender.name]
                enough = contender.repeats is not None and number >= contender.repeats
                if not (enough or result.failed):
                    with noted(result):
                        result.runs.append(workers[contender.name].ask("run"))
        for name, result in results.items():
            if not result.failed:
                with noted(result):
                    _, result.peak_mib = workers[name].stop()
    return results


def lifetime(contender: Contender, result: Result, *, time_limit: float) -> None:
    """Adds one run, timed from the process's start to its end."""
    if result.failed:
        return
    worker = Worker(contender, time_limit)
    try:
        with noted(result):
            result.ready.append(worker.hear())
            run = worker.ask("run")
            seconds, result.peak_mib = worker.stop()
            result.runs.append(run | {"seconds": seconds})
    finally:
        worker.close()


def neighbour_home(name: str, folder: Path) -> Home:
    """A neighbour's own environment, which is made if it isn't there.

    Raises:
      WorkerError: it can't be made.
    """
    module, requirements = NEIGHBOURS[name]
    python = str(folder.expanduser().absolute() / name / "bin" / "python")
    home = Home(python)

    def problem() -> str | None:
        if not Path(python).exists():
            return "there is no environment"
        return call(home, python, "-c", f"import {module}")

    if problem():
        (folder.expanduser() / name).mkdir(parents=True, exist_ok=True)
        made = call(home, sys.executable, "-m", "venv", str(Path(python).parents[1]))
        pip = (python, "-m", "pip", "install", "--quiet")
        said = made or call(home, *pip, *requirements) or problem()
        if said:
            raise WorkerError(f"can't be installed: {said}")
    return home


def wheels_home(name: str, folder: Path, wheels: Path) -> Home:
    """A neighbour in this Python, with its own packages from `wheels`/name/*.whl.

    They are put into a folder that only its processes see.

    Raises:
      WorkerError: there are no wheels, or it can't be imported with them.
    """
    module, _ = NEIGHBOURS[name]
    files = sorted(map(str, (wheels.expanduser() / name).glob("*.whl")))
    if not files:
        raise WorkerError(
            f"--wheels {wheels} has no {name}/*.whl: download them, as "
            "scripts/README.md says"
        )
    target = str(folder.expanduser().absolute() / f"{name}-wheels")
    home = Home(sys.executable, {"PYTHONPATH": target})
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--upgrade")
    pip += ("--no-index", "--no-deps", "--no-compile", "--target", target)
    said = call(home, *pip, *files) or call(home, home.python, "-c", f"import {module}")
    if said:
        raise WorkerError(f"can't be installed from --wheels {wheels}: {said}")
    return home


def call(home: Home, *command: str) -> str | None:
    """The last words of a command that failed, None if it did not."""
    environment = variables(home.python) | dict(home.variables)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = (done.stderr.strip() or done.stdout.strip()).split("\n")
    return lines[-1] if done.returncode else None
