"""Two CPU devices for the whole suite, as CI's machine has two cores."""

import gc
import os
from pathlib import Path

import hypothesis
import jax
import pytest

from rljax.experiment import programs
from rljax.testing.gradients import enable_x64

# Test modules import this one a second time, perhaps after another ran JAX, and the
# oldest JAX then refuses even the same number.
if jax.config.jax_num_cpu_devices != 2:  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_num_cpu_devices", 2)
# The same examples in every run, and no folder of them; compilation takes its time.
hypothesis.settings.register_profile(
    "rljax", max_examples=30, derandomize=True, database=None, deadline=None
)
hypothesis.settings.load_profile("rljax")


def pytest_configure(config):
    # Most of a test's time goes into compiling. The fast tests ask for less of it, the
    # slow ones compile as users do.
    if config.getoption("markexpr") != "not slow":
        return
    jax.config.update("jax_disable_most_optimizations", True)
    if jax.__version_info__ < (0, 11):  # XLA dies of flags that it does not know
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false"


def pytest_terminal_summary(terminalreporter):
    """Prints what tests measured, as `record_property("evidence", …)`."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == "evidence":
                    terminalreporter.write_line(text)


@pytest.fixture(autouse=True, scope="module")
def not_too_many_programs():
    """Linux lets a process map 65,530 regions; a compiled program takes a hundred."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 35_000:
        jax.clear_caches()
        programs.compile_training.cache_clear()
        programs.compile_evaluation.cache_clear()
        gc.collect()


@pytest.fixture
def x64():
    with enable_x64():
        yield


@pytest.fixture
def two_devices():
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices: one GPU is one")


@pytest.fixture
def key():
    return jax.random.key(0)
