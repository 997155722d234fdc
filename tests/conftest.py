"""Two CPU devices for the whole suite, as CI's machine has two cores."""

import hypothesis
import jax
import pytest

from rljax.testing.gradients import enable_x64

jax.config.update("jax_num_cpu_devices", 2)
# The same examples in every run, and no folder of them; compilation takes its time.
hypothesis.settings.register_profile(
    "rljax", max_examples=30, derandomize=True, database=None, deadline=None
)
hypothesis.settings.load_profile("rljax")


def pytest_terminal_summary(terminalreporter):
    """Prints what tests measured, as `record_property("evidence", …)`."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == "evidence":
                    terminalreporter.write_line(text)


@pytest.fixture
def x64():
    with enable_x64():
        yield


@pytest.fixture
def key():
    return jax.random.key(0)
