"""Draws generated mistakes, runs on each the tests that reach it, and reports."""

import contextlib
import hashlib
import json
import queue
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import reach
import rich.console
import rich.table
from copies import ROOT, BrokenRunError, copy_tree, run_pytest
from mutants import Mutant, mutants

EQUIVALENT = ROOT / "scripts" / "equivalent_mutants.toml"
FOLDER = ROOT / "runs" / "mutation_check"
NEAREST = 2  # files of tests that run before all others that reach a mistake
SLOW_LIMIT_S = 1500


class Outcome(NamedTuple):
    """What came of one generated mistake."""

    mutant: Mutant
    outcome: str
    """"caught", "timeout" (so caught, too), "survived" or "unreached" (by any test)."""
    by: str
    """The first test that failed, after "slow: " if no fast one does."""
    seconds: float


def equivalents(path: Path = EQUIVALENT) -> dict[tuple[str, str, str], str]:
    """Why each of the listed changes is no mistake, by (file, before, after)."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    return {(e["file"], e["before"], e["after"]): e["reason"] for e in entries}


def draw(
    sources: Mapping[str, str],
    number: int,
    seed: int,
    left_out: Container = frozenset(),
) -> list[Mutant]:
    """A sample of mistakes in which every line that has some is as likely as any other.

    Modules so get theirs in proportion to their lines. Of a line a second mistake is
    drawn only when all lines have one. The first n of a larger sample are the sample of
    n, and a change of one line leaves the order of all others as it was.

    Args:
      sources: text by file.
      number: how many; fewer if there are no more.
      seed: another seed, another sample.
      left_out: the (file, before, after) that are not to be drawn.
    """
    by_line: dict[tuple[str, int], list[tuple[str, Mutant]]] = {}
    for file, source in sources.items():
        for mutant in mutants(source, file):
            if mutant.identity[:3] not in left_out:
                words = repr((seed, *mutant.identity)).encode()
                ticket = hashlib.sha256(words).hexdigest()
                by_line.setdefault((file, mutant.line), []).append((ticket, mutant))
    ranked = [
        (rank, ticket, mutant)
        for of_line in by_line.values()
        for rank, (ticket, mutant) in enumerate(sorted(of_line))
    ]
    drawn = []
    for _, _, mutant in sorted(ranked):
        if len(drawn) == number:
            break
        if mutant.is_program(sources[mutant.file]):
            drawn.append(mutant)
    return drawn


def tests_named_after(file: str) -> list[str]:
    """The test file of a module's own name, if there is one."""
    path = Path(file)
    named = (Path("tests") / path.relative_to("rljax")).with_name(f"test_{path.name}")
    return [named.as_posix()] if (ROOT / named).exists() else []


def sources_of(modules: Sequence[str], near: bool, seed: int) -> dict[str, str]:
    """The library's texts by file: all of them or those named; if near, one of these.

    Raises:
      ValueError: a module is no file of the library, or `near` and none has its tests.
    """
    paths = sorted((ROOT / "rljax").rglob("*.py"))
    texts = {p.relative_to(ROOT).as_posix(): p.read_text("utf-8") for p in paths}
    for module in modules:
        if module not in texts:
            raise ValueError(
                f"--modules must be files such as rljax/returns.py, got {module!r}."
            )
    chosen = {f: t for f, t in texts.items() if not modules or f in modules}
    if near:
        own = [file for file in chosen if tests_named_after(file)]
        if not own:
            raise ValueError(f"--near: no test file is named after {[*chosen]}.")
        drawn = random.Random(seed).choice(own)
        return {drawn: chosen[drawn]}
    return chosen


class Runner:
    """Runs tests on mistakes; those of one slot share a folder of compiled programs."""

    def __init__(self, scratch: Path, jobs: int, slow: bool = False):
        self.scratch = scratch
        self.slow = slow
        self.slots: queue.Queue[Path] = queue.Queue()
        for job in range(jobs):
            self.slots.put(FOLDER / "compiled" / str(job))
        self.reaches: list[reach.Reach] = []

    @contextlib.contextmanager
    def slot(self) -> Iterator[tuple[Path, Path]]:
        """A fresh copy of the tree and a folder of compiled programs."""
        compiled = self.slots.get()
        try:
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                yield copy_tree(Path(folder)), compiled
        finally:
            self.slots.put(compiled)

    def find_reach(self, tests: str) -> reach.Reach:
        """What a test file executes."""
        with self.slot() as (copy, compiled):
            return reach.reach_of(tests, copy, compiled, FOLDER / "reach")

    def stages(self, mutant: Mutant) -> list[list[str]]:
        """Tests to run, the likeliest to fail and quickest first.

        First those that execute the changed statement, of the nearest files; then of
        the others, and all tests of files that execute the function around it.
        """
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        statement, scope, body = reach.around(source, mutant.line)
        named = tests_named_after(mutant.file)
        first, rest = [], []
        for of_file in self.reaches:
            reaching = of_file.reaching(mutant.file, scope)
            if not reaching and not of_file.imports(mutant.file, body):
                continue
            exact = of_file.reaching(mutant.file, statement) or reaching
            cost = sum(of_file.seconds.get(name, 0.0) for name in exact)
            others = sorted(set(of_file.seconds) - set(exact))
            if exact:
                first.append((of_file.tests not in named, cost, of_file.tests, exact))
            rest.append([f"{of_file.tests}::{name}" for name in others])
        first.sort()
        ids = [[f"{tests}::{name}" for name in exact] for *_, tests, exact in first]
        nearest, later = ids[:NEAREST], ids[NEAREST:]
        return [[*chain(*nearest)], [*chain(*later, *rest)]]

    def slow_files(self, mutant: Mutant) -> list[str]:
        """Test files to run the slow tests of, the nearest first.

        Those whose fast tests execute the function around the changed line, and those
        that have slow tests only and so might.
        """
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        _, scope, _ = reach.around(source, mutant.line)
        named = tests_named_after(mutant.file)
        found = []
        for of_file in self.reaches:
            reaching = of_file.reaching(mutant.file, scope)
            if reaching or not of_file.seconds:
                rank = (of_file.tests not in named, -len(reaching), of_file.tests)
                found.append(rank)
        return [tests for *_, tests in sorted(found)]

    def check(self, mutant: Mutant) -> Outcome:
        """Plants one mistake and runs what reaches it, until a test fails."""
        start, stages = time.perf_counter(), self.stages(mutant)
        outcome, by = "survived" if any(stages) else "unreached", ""
        seconds = {
            f"{r.tests}::{n}": s for r in self.reaches for n, s in r.seconds.items()
        }
        with self.slot() as (copy, compiled):
            path = copy / mutant.file
            path.write_text(mutant.plant(path.read_text("utf-8")), encoding="utf-8")
            for tests in filter(None, stages):
                limit = 120 + 5 * sum(seconds.get(test, 0.0) for test in tests)
                try:
                    arguments = ["-x", "--tb=line", *tests]
                    done = run_pytest(copy, arguments, compiled, limit)
                except subprocess.TimeoutExpired:
                    outcome = "timeout"
                    break
                _require_an_end(done)
                if done.returncode:
                    outcome, by = "caught", _first_failure(done)
                    break
            if self.slow and outcome == "survived":
                by = self.first_slow_failure(mutant, copy, compiled)
                outcome = "caught" if by else outcome
        return Outcome(mutant, outcome, by, time.perf_counter() - start)

    def first_slow_failure(self, mutant: Mutant, copy: Path, compiled: Path) -> str:
        """The first slow test that fails with the mistake in; "" if none does.

        How long they take without it isn't known, so running out of time says nothing.
        """
        end = time.monotonic() + SLOW_LIMIT_S
        for tests in self.slow_files(mutant):
            arguments = ["-x", "--tb=line", tests]
            left = end - time.monotonic()
            try:
                done = run_pytest(copy, arguments, compiled, left, marked="slow")
            except subprocess.TimeoutExpired:
                break
            if done.returncode == 5:  # it has no slow test
                continue
            _require_an_end(done)
            if done.returncode:
                return f"slow: {_first_failure(done)}"
        return ""


def _require_an_end(done: subprocess.CompletedProcess) -> None:
    """Raises BrokenRunError where no test ran, or pytest was stopped from outside."""
    if done.returncode in (-signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL):
        raise BrokenRunError("pytest was stopped.")
    if done.returncode == 5:
        raise BrokenRunError("no test ran.")


def _first_failure(done: subprocess.CompletedProcess) -> str:
    pattern = r"^(?:FAILED|ERROR) (tests/\S+.*)"
    failed = re.search(pattern, done.stdout, re.MULTILINE)
    return failed[1][:200] if failed else f"pytest ended with {done.returncode}"


def run(config, console: rich.console.Console, each: Callable) -> int:
    """Checks a sample, prints what came of it, and notes it in a file of JSON lines."""
    sources = sources_of(config.modules, config.near, config.seed)
    left_out = equivalents()
    drawn = draw(sources, config.generate, config.seed, left_out)
    FOLDER.mkdir(parents=True, exist_ok=True)
    fresh = FOLDER / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-seed{config.seed}.jsonl"
    notes = config.resume or fresh
    known = {outcome.mutant.identity: outcome for outcome in _read(notes)}
    outcomes = [known[m.identity] for m in drawn if m.identity in known]
    todo = [m for m in drawn if m.identity not in known]
    files = reach.test_files()
    if config.near:
        files = sorted({name for m in todo for name in tests_named_after(m.file)})
    end = time.monotonic() + 60 * (config.minutes or float("inf"))
    writing = threading.Lock()

    with _alone(), tempfile.TemporaryDirectory(prefix="mutants_") as scratch:
        runner = Runner(Path(scratch), config.jobs, config.slow)
        if todo:
            finder = [lambda file=file: runner.find_reach(file) for file in files]
            runner.reaches = each("without a mistake", finder)

        def check(mutant: Mutant) -> Outcome | None:
            if time.monotonic() > end:
                return None
            outcome = runner.check(mutant)
            with writing, notes.open("a", encoding="utf-8") as file:
                words = outcome._asdict() | mutant._asdict()
                words.pop("mutant")
                print(json.dumps(words, ensure_ascii=False), file=file)
            return outcome

        checks = [lambda mutant=mutant: check(mutant) for mutant in todo]
        try:
            outcomes += filter(None, each("with it", checks))
        except KeyboardInterrupt:
            console.print(f"Go on with --resume {notes}", soft_wrap=True)
            raise
    report(outcomes, console)
    console.print(
        f"--seed {config.seed}; {len(outcomes)} of {len(drawn)} drawn; {notes}"
    )
    return 0


def _read(notes: Path) -> list[Outcome]:
    """The outcomes of an interrupted run."""
    if not notes.exists():
        return []
    found = []
    for line in notes.read_text(encoding="utf-8").splitlines():
        words = json.loads(line)
        mutant = Mutant(*(words[name] for name in Mutant._fields))
        found.append(Outcome(mutant, words["outcome"], words["by"], words["seconds"]))
    return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keeps two runs from writing into the same folder of compiled programs.

    Raises:
      BrokenRunError: another run is at work.
    """
    import fcntl  # not on Windows

    with (FOLDER / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrokenRunError(f"another run is at work in {FOLDER}.") from None
        yield


def report(outcomes: Sequence[Outcome], console: rich.console.Console) -> None:
    """A table by module, and each survivor as a change of one line."""
    table = rich.table.Table(title="Generated mistakes")
    table.add_column("module", overflow="fold")
    for heading in ("sampled", "caught", "survived", "score"):
        table.add_column(heading, justify="right")
    alive = [o for o in outcomes if o.outcome in ("survived", "unreached")]
    modules = sorted({outcome.mutant.file for outcome in outcomes})
    for module in [*modules, "all"]:
        sampled = sum(module in (o.mutant.file, "all") for o in outcomes)
        survived = sum(module in (o.mutant.file, "all") for o in alive)
        score = f"{1 - survived / max(sampled, 1):.0%}"
        counts = (sampled, sampled - survived, survived)
        table.add_row(module, *map(str, counts), score)
    console.print(table)
    by_slow = sum(outcome.by.startswith("slow: ") for outcome in outcomes)
    if by_slow:
        console.print(f"{by_slow} were caught by slow tests alone.")
    for mutant, outcome, _, _ in sorted(alive):
        words = f"{mutant.file}:{mutant.line}: {mutant.before} → {mutant.after}"
        note = " (no test reaches it)" if outcome == "unreached" else ""
        console.print(words + note, soft_wrap=True, markup=False, emoji=False)
