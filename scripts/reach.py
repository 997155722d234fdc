"""Which tests execute which lines, by one run of each test file under coverage.

Code under `jit` is executed as it is traced, which coverage sees; a later test of the
same file may use what was traced then. So tests are known one by one, to be run first,
and by file, to be run before a mistake is said to have survived.
"""

import ast
import hashlib
import json
import subprocess
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from copies import ROOT, BrokenRunError, run_pytest

TIMEOUT_S = 1800
_PARSING = threading.Lock()
"""CPython 3.11 may fail where two threads make syntax trees, gh-106905."""


class Reach(NamedTuple):
    """What the tests of one file execute."""

    tests: str
    """The file, such as tests/test_returns.py."""
    seconds: dict[str, float]
    """How long each test took, by its name below the file, its cases together."""
    lines: dict[str, dict[str, list[str]]]
    """Names of tests by file and line, "" for what runs as the file is imported."""

    def reaching(self, file: str, lines: Iterable[int]) -> list[str]:
        """The tests that execute one of these lines, the fastest first."""
        of_file = self.lines.get(file, {})
        names = {name for line in lines for name in of_file.get(str(line), [])} - {""}
        return sorted(names, key=lambda name: self.seconds.get(name, 0.0))

    def imports(self, file: str, lines: Iterable[int]) -> bool:
        """Whether one of these lines runs as the file is imported, for all tests."""
        of_file = self.lines.get(file, {})
        return any("" in of_file.get(str(line), []) for line in lines)


def test_files() -> list[str]:
    """All files of tests, below the root."""
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    return [path.relative_to(ROOT).as_posix() for path in found]


def reach_of(tests: str, copy: Path, compiled: Path, folder: Path) -> Reach:
    """What one test file reaches: as noted in `folder`, or from a run of it.

    It is noted for the library and the tests as they are; after a change of the
    library, or of this file, it is found anew.

    Raises:
      BrokenRunError: the tests fail with no mistake planted, or take too long.
    """
    noted = folder / f"{tests.replace('/', '.')}-{_fingerprint(tests)}.json"
    if noted.exists():
        return Reach(*json.loads(noted.read_text(encoding="utf-8")))
    data, report = copy / "coverage.data", copy / "report.xml"
    # With xdist's scheduler, even of no workers, pytest-cov may leave contexts out.
    arguments = [
        tests,
        "--cov=rljax",
        "--cov-context=test",
        "--cov-report=",
        "--dist=no",
    ]
    arguments += ["-o", "junit_family=xunit1", f"--junitxml={report}"]
    try:
        variables = {"COVERAGE_FILE": str(data)}
        done = run_pytest(copy, arguments, compiled, TIMEOUT_S, variables)
    except subprocess.TimeoutExpired:
        raise BrokenRunError(f"{tests} took more than {TIMEOUT_S} s.") from None
    if done.returncode not in (0, 5):  # 5: all of its tests are slow
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BrokenRunError(f"without any mistake, {tests} fails:\n{last}")
    reach = Reach(tests, _seconds(report), _lines(data, copy))
    folder.mkdir(parents=True, exist_ok=True)
    noted.write_text(json.dumps(reach), encoding="utf-8")
    return reach


def _fingerprint(tests: str) -> str:
    """Changes with the library, what tests share, and this file."""
    paths = [ROOT / tests, *(ROOT / "rljax").rglob("*.py")]
    paths += [p for p in (ROOT / "tests").rglob("*.py") if "test_" not in p.name]
    words = hashlib.sha256()
    for path in sorted(paths):
        words.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return words.hexdigest()[:16]


def _seconds(report: Path) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("name", "").split("[")[0]
        seconds[name] = seconds.get(name, 0.0) + float(case.get("time", 0))
    return seconds


def _lines(data: Path, copy: Path) -> dict[str, dict[str, list[str]]]:
    import coverage  # the extra "test"; the known mistakes can do without

    measured = coverage.CoverageData(str(data))
    measured.read()
    lines = {}
    for path in measured.measured_files():
        by_line = measured.contexts_by_lineno(path)
        # A context is tests/test_x.py::test_y[case]|run, or empty while importing.
        lines[Path(path).relative_to(copy).as_posix()] = {
            str(line): sorted(set(map(_name, contexts)))
            for line, contexts in by_line.items()
        }
    return lines


def _name(context: str) -> str:
    return context.partition("::")[2].split("[")[0].split("|")[0]


def around(source: str, line: int) -> tuple[range, range, range]:
    """The lines of the statement at a line, of what is around it, and of a body there.

    Around it is a function, else a class, else the module: a definition's defaults, and
    what a module does as it is imported, are of use to whatever runs the function, a
    method of the class, or any function of the module. The body, of a function only,
    may itself run as others are imported; otherwise it is empty.
    """
    statement = range(line, line + 1)
    scope, body = range(1, len(source.splitlines()) + 1), range(0)
    with _PARSING:
        tree = ast.parse(source)
    for node in ast.walk(tree):  # from the outermost inwards
        if not isinstance(node, ast.stmt) or node.end_lineno is None:
            continue
        inside = range(node.lineno, node.end_lineno + 1)
        if line not in inside:
            continue
        if isinstance(node, ast.FunctionDef) and not body:
            scope, body = inside, range(node.body[0].lineno, node.end_lineno + 1)
        elif isinstance(node, ast.ClassDef) and not body:
            scope = inside
        below = getattr(node, "body", None)
        statement = range(node.lineno, below[0].lineno) if below else inside
    return statement, scope, body
