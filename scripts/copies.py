"""Copies of the tree, and pytest in them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# They see that a mistake is planted, whatever it does.
SEE_ALL = (
    "test_scripts.py::test_every_mistake_of_the_mutation_check_can_be_planted",
    "test_mutants.py::test_changes_judged_equivalent_can_still_be_made",
)


class BrokenRunError(Exception):
    """A run of pytest that says nothing about the mistake."""


def copy_tree(folder: Path) -> Path:
    """A new copy of what the tests need, below `folder`."""
    copy = Path(tempfile.mkdtemp(dir=folder, prefix="copy_"))
    for part in ("rljax", "tests", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, copy / part, ignore=ignored)
    for part in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / part, copy / part)
    return copy


def run_pytest(
    copy: Path,
    arguments: Sequence[str],
    compiled: Path,
    timeout_s: float,
    variables: dict[str, str] | None = None,
    marked: str = "not slow",
) -> subprocess.CompletedProcess:
    """Runs tests in a copy; what no mistake touches is compiled once.

    Args:
      copy: from `copy_tree`.
      arguments: of pytest, the tests among them.
      compiled: folder of JAX's compilation cache. Not for two runs at a time: a
        half-written entry would look like a failing test.
      timeout_s: seconds after which it is killed.
      variables: added to the environment.
      marked: pytest's -m.

    Raises:
      subprocess.TimeoutExpired: it took more than `timeout_s`.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-m", marked]
    command += ["-p", "no:cacheprovider", "--color=no"]
    command += [f"--deselect=tests/{test}" for test in SEE_ALL] + [*arguments]
    paths = [str(copy), os.environ.get("PYTHONPATH", "")]
    environment = {
        **{k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"},
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "1000",  # for the summary, which is cut to them
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        **(variables or {}),
    }
    return subprocess.run(
        command,
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        # Ctrl-C in a terminal then reaches the caller alone: what runs is run to its
        # end, and a test that ends by SIGINT was ended by the mistake in it.
        start_new_session=True,
    )
