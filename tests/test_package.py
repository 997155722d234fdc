"""What importing costs, touches and pulls in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rljax

ROOT = Path(__file__).parents[1]


def python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_import_touches_no_device():
    # With a platform that does not exist, the first touch of a device would raise.
    python("import rljax", JAX_PLATFORMS="no_such_platform")


def test_import_pulls_in_no_optional_package():
    out = python("import rljax, sys; print(*sys.modules)").split()
    optional = {"tyro", "rich", "matplotlib", "PIL", "gymnasium", "flax", "pytest"}
    assert not optional & {name.split(".")[0] for name in out}


def test_parts_that_few_programs_use_are_imported_when_they_are_asked_for():
    out = python(
        "import rljax, sys; before = set(sys.modules); rljax.sweep; rljax.testing;"
        "rljax.plotting;"
        "from rljax import PPOKL; print(*before, '|', *sys.modules, *dir(rljax))"
    )
    before, after = (set(words.split()) for words in out.split("|"))
    later = {f"rljax.{x}" for x in ("experiment", "plotting", "rlhf", "testing")}
    assert not later & before
    assert later | set(rljax.__all__) <= after


def test_a_name_that_there_is_not_is_refused_as_python_does():
    with pytest.raises(AttributeError, match=r"'rljax' has no attribute 'swep'"):
        _ = rljax.swep


@pytest.mark.slow
def test_import_costs_little_more_than_its_dependencies(record_property):
    # Processor time, and the fastest of several runs: other work on the machine
    # lengthens both, and never shortens either.
    def seconds(modules):
        code = f"import time, {modules}; print(time.process_time())"
        return float(python(code))

    pairs = [(seconds("rljax"), seconds("jax, optax, chex")) for _ in range(5)]
    ours, theirs = map(min, zip(*pairs, strict=True))
    record_property("evidence", f"import rljax: {ours / theirs:.2f} × its dependencies")
    assert ours <= 1.3 * theirs


def test_public_names_exist_and_are_documented():
    for name in rljax.__all__:
        assert getattr(rljax, name).__doc__, name


def test_the_changelog_knows_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(rljax.__version__)}\b", changelog, re.M)
