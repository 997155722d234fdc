#!/usr/bin/env python
"""Plants known mistakes in copies of the library: does the test suite catch each?

python scripts/mutation_check.py                # all of them
python scripts/mutation_check.py --sample 5     # five at random
"""

import concurrent.futures
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mutations import MUTATIONS, Mutation

from rljax.experiment import cli

try:
    import rich.console
    import rich.markup
    import rich.progress
    import rich.table
    import tyro
except ImportError as error:
    sys.exit(f"{error}. Install the command-line extra: pip install -e '.[cli]'")

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 1200
SEES_ALL = "test_every_mistake_of_the_mutation_check_can_be_planted"


@dataclasses.dataclass(frozen=True)
class Config:
    """Plants known mistakes, one at a time, and runs the fast tests on each."""

    sample: int | None = None
    """How many of the mistakes, drawn at random; None: all."""
    match: str = ""
    """Only mistakes whose name or file contains this text."""
    jobs: int = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    """Copies of the library tested side by side."""
    seed: int = 0
    """Seed of the sample."""

    def __post_init__(self):
        cli.check_flags(self, sample=1, jobs=1)


class Outcome(NamedTuple):
    """What came of one mistake."""

    mutation: Mutation
    caught_by: str | None
    """The first test that failed, and its error; None: none did."""
    broken: str | None
    """Why nothing can be said of it, such as that the mistake is not a program."""
    seconds: float


class BrokenRunError(Exception):
    """A run of pytest that says nothing about the mistake."""


def main() -> int:
    try:
        config = tyro.cli(Config)
    except (TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    chosen = [m for m in MUTATIONS if config.match in f"{m.name} {m.file}"]
    if config.sample is not None and config.sample < len(chosen):
        picked = np.random.default_rng(config.seed).permutation(len(chosen))
        chosen = [chosen[i] for i in sorted(picked[: config.sample])]
    if not chosen:
        print(f"error: no mistake contains {config.match!r}.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="mutation_check_") as folder:
        checker = Checker(Path(folder))
        try:
            outcomes = check_all(checker, chosen, config.jobs, console)
        except BrokenRunError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("Stopped; nothing of it is left behind.", file=sys.stderr)
            return 130
    console.print(table_of(outcomes))
    caught = sum(outcome.caught_by is not None for outcome in outcomes)
    drawn = "" if config.sample is None else f" (a sample, --seed {config.seed})"
    console.print(f"{caught} of {len(outcomes)} caught{drawn}.")
    return 0 if caught == len(outcomes) else 1


def check_all(
    checker: "Checker",
    mutations: list[Mutation],
    jobs: int,
    console: rich.console.Console,
) -> list[Outcome]:
    """The outcomes, after the tests have passed without any mistake."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
    )
    with (
        rich.progress.Progress(*columns, console=console) as progress,
        concurrent.futures.ThreadPoolExecutor(jobs) as pool,
    ):

        def finish(what: str, futures: list[concurrent.futures.Future]) -> list[Any]:
            task = progress.add_task(what, total=len(futures))
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
                    progress.advance(task)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            return [future.result() for future in futures]

        files = sorted({mutation.tests for mutation in mutations})
        untouched = [pool.submit(checker.check_baseline, file) for file in files]
        finish("without a mistake", untouched)
        return finish("with it", [pool.submit(checker.check, m) for m in mutations])


class Checker:
    """Runs tests on copies of the tree; those of one thread share compiled programs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.Lock()
        self.all_pass = False

    def check_baseline(self, tests: str) -> None:
        """Raises BrokenRunError if a test fails with no mistake planted."""
        failed = self.first_failure(self._copy(), tests)
        if failed is not None:
            raise BrokenRunError(f"without any mistake, {failed} fails.")

    def check(self, mutation: Mutation) -> Outcome:
        """Plants one mistake; runs the tests that ought to know it, then all."""
        start = time.perf_counter()
        caught_by = broken = None
        try:
            copy = self.plant(mutation)
            caught_by = self.first_failure(copy, mutation.tests)
            if caught_by is None:
                with self.lock:
                    if not self.all_pass:
                        self.check_baseline("")
                        self.all_pass = True
                caught_by = self.first_failure(copy, "")
            shutil.rmtree(copy)
        except BrokenRunError as error:
            broken = str(error)
        return Outcome(mutation, caught_by, broken, time.perf_counter() - start)

    def plant(self, mutation: Mutation) -> Path:
        """A copy of the tree with the mistake in it.

        Raises:
          BrokenRunError: what it changes is not there, or more than once.
        """
        copy = self._copy()
        path = copy / "rljax" / mutation.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutation.right) != 1:
            raise BrokenRunError(
                f"{mutation.file} must contain once what {mutation.name!r} changes, "
                f"contains it {text.count(mutation.right)} times."
            )
        path.write_text(text.replace(mutation.right, mutation.wrong), encoding="utf-8")
        return copy

    def _copy(self) -> Path:
        copy = Path(tempfile.mkdtemp(dir=self.folder, prefix="copy_"))
        for part in ("rljax", "tests", "scripts"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, copy / part, ignore=ignored)
        for part in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"):
            shutil.copy(ROOT / part, copy / part)
        return copy

    def first_failure(self, copy: Path, tests: str) -> str | None:
        """The first fast test below tests/`tests` that fails, its error, or None.

        Raises:
          BrokenRunError: no test ran, none could be collected, or one failed as the
            mistake is no working program.
        """
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow"]
        command += ["-p", "no:cacheprovider", "--tb=line", "--color=no"]
        # This one sees that a mistake is planted, whatever it does.
        command += ["--deselect", "tests/test_scripts.py::" + SEES_ALL]
        command.append(str(Path("tests") / tests))
        environment = {
            **{k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"},
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "1000",  # for the summary, which is cut to them
            # What no mistake touches is compiled once. Not by threads together: a
            # half-written entry would look like a failing test.
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / str(threading.get_ident())),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        try:
            done = subprocess.run(
                command,
                cwd=copy,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise BrokenRunError(f"pytest took more than {TIMEOUT_S} s.") from None
        if done.returncode == 0:
            return None
        pattern = r"^(?:FAILED|ERROR) tests/(\S+?::\w+).*? - (\w+)"
        failed = re.search(pattern, done.stdout, re.MULTILINE)
        if done.returncode != 1 or failed is None:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise BrokenRunError(f"pytest ended with {done.returncode}:\n{last}")
        if failed.group(2) in ("NameError", "SyntaxError", "ImportError", "TypeError"):
            raise BrokenRunError(f"{failed.group(1)} ended with {failed.group(2)}.")
        return f"{failed.group(1)}: {failed.group(2)}"


def table_of(outcomes: list[Outcome]) -> rich.table.Table:
    """Mistakes and who caught them."""
    table = rich.table.Table(title="Mistakes planted")
    for heading in ("mistake", "caught by"):
        table.add_column(heading, overflow="fold")
    table.add_column("s", justify="right")
    for mutation, caught_by, broken, seconds in outcomes:
        where = caught_by or f"[bold red]{rich.markup.escape(broken or 'nothing')}[/]"
        table.add_row(f"{mutation.file}: {mutation.name}", where, f"{seconds:.0f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
