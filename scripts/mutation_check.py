#!/usr/bin/env python
"""Plants mistakes in copies of the library: does the test suite catch each?

python scripts/mutation_check.py                # all of them
python scripts/mutation_check.py --sample 5     # five at random
python scripts/mutation_check.py --generate 60  # of mistakes made by a program
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import generated
import numpy as np
from copies import BrokenRunError, copy_tree, run_pytest
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

TIMEOUT_S = 1200


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
    generate: int | None = None
    """How many mistakes to draw of those that a program makes of the library's text, in
    proportion to its lines; None: known mistakes instead. Survivors are for a person to
    judge, so they don't count as a failure."""
    modules: tuple[str, ...] = ()
    """Generated mistakes: only of these files, such as rljax/returns.py."""
    near: bool = False
    """Generated mistakes: of one module alone, drawn of those with a test file of their
    name, and only this file is run. Takes minutes; another file might have caught the
    survivors."""
    slow: bool = False
    """Generated mistakes: what survives the fast tests meets the slow ones, too, of the
    files that reach it."""
    minutes: float | None = None
    """Generated mistakes: none is begun later than this."""
    resume: Path | None = None
    """Generated mistakes: file of JSON lines of an earlier run, to go on from it. What
    is noted there stands, whatever has changed since."""

    def __post_init__(self):
        cli.check_flags(self, sample=1, jobs=1, generate=1)
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"--minutes must be more than 0, got {self.minutes}.")
        if self.resume is not None and not self.resume.exists():
            raise ValueError(f"--resume must be a file, got {self.resume}.")


class Outcome(NamedTuple):
    """What came of one mistake."""

    mutation: Mutation
    caught_by: str | None
    """The first test that failed, and its error; None: none did."""
    broken: str | None
    """Why nothing can be said of it, such as that the mistake is not a program."""
    seconds: float


def main() -> int:
    try:
        config = tyro.cli(Config)
    except (TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    try:
        if config.generate is None:
            return check_known(config, console)
        with workers(config.jobs, console) as each:
            return generated.run(config, console, each)
    except (BrokenRunError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; no copy is left behind.", file=sys.stderr)
        return 130


def check_known(config: Config, console: rich.console.Console) -> int:
    """Plants the known mistakes; the exit status is 0 if all were caught."""
    chosen = [m for m in MUTATIONS if config.match in f"{m.name} {m.file}"]
    if config.sample is not None and config.sample < len(chosen):
        picked = np.random.default_rng(config.seed).permutation(len(chosen))
        chosen = [chosen[i] for i in sorted(picked[: config.sample])]
    if not chosen:
        raise ValueError(f"no mistake contains {config.match!r}.")
    with tempfile.TemporaryDirectory(prefix="mutation_check_") as folder:
        checker = Checker(Path(folder))
        with workers(config.jobs, console) as each:
            files = sorted({mutation.tests for mutation in chosen})
            baselines = [
                lambda file=file: checker.check_baseline(file) for file in files
            ]
            each("without a mistake", baselines)
            outcomes = each("with it", [lambda m=m: checker.check(m) for m in chosen])
    console.print(table_of(outcomes))
    caught = sum(outcome.caught_by is not None for outcome in outcomes)
    drawn = "" if config.sample is None else f" (a sample, --seed {config.seed})"
    console.print(f"{caught} of {len(outcomes)} caught{drawn}.")
    return 0 if caught == len(outcomes) else 1


@contextlib.contextmanager
def workers(jobs: int, console: rich.console.Console) -> Iterator[Callable]:
    """A function that calls others side by side and returns their results in order."""
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

        def each(what: str, calls: list[Callable[[], Any]]) -> list[Any]:
            futures = [pool.submit(call) for call in calls]
            task = progress.add_task(what, total=len(futures))
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
                    progress.advance(task)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            return [future.result() for future in futures]

        yield each


class Checker:
    """Runs tests on copies of the tree; those of one thread share compiled programs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.Lock()
        self.all_pass = False

    def check_baseline(self, tests: str) -> None:
        """Raises BrokenRunError if a test fails with no mistake planted."""
        failed = self.first_failure(copy_tree(self.folder), tests)
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
        copy = copy_tree(self.folder)
        path = copy / "rljax" / mutation.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutation.right) != 1:
            raise BrokenRunError(
                f"{mutation.file} must contain once what {mutation.name!r} changes, "
                f"contains it {text.count(mutation.right)} times."
            )
        path.write_text(text.replace(mutation.right, mutation.wrong), encoding="utf-8")
        return copy

    def first_failure(self, copy: Path, tests: str) -> str | None:
        """The first fast test below tests/`tests` that fails, its error, or None.

        Raises:
          BrokenRunError: no test ran, none could be collected, or one failed as the
            mistake is no working program.
        """
        arguments = ["-x", "--tb=line", str(Path("tests") / tests)]
        compiled = self.folder / str(threading.get_ident())
        try:
            done = run_pytest(copy, arguments, compiled, TIMEOUT_S)
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
