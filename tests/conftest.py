"""Two CPU devices for the whole suite, as CI's machine has two cores."""

import contextlib

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)


def enable_x64() -> contextlib.AbstractContextManager:
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # before jax 0.8

    return enable_x64()


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
