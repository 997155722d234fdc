"""What only whole processes show: kill -9, several of them, their peak memory."""

import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from rljax.experiment.checkpoint import Checkpoints

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]


def start(script, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, str(TESTS / script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, timeout=300):
    out, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, out
    return out


def result_of(path):
    with open(path, "rb") as file:
        return pickle.load(file)


@pytest.mark.slow
def test_killed_again_and_again_equals_uninterrupted(tmp_path, record_property):
    """Every agent in one sweep that saves after each chunk; 20 kills at random."""
    # Programs compiled once, by the run that nobody kills.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    num_updates = 150
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    finish(start("killed.py", tmp_path / "whole", num_updates, 0.5, 3600, **cache))
    folder, draw = tmp_path / "killed", random.Random(0)
    checkpoints = Checkpoints(folder / "checkpoints")
    in_a_save, updates = 0, []
    for _ in range(20):
        before = checkpoints.steps()[-1:]
        process = start("killed.py", folder, num_updates, 0.01, 0, **cache)
        while checkpoints.steps()[-1:] == before:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        in_a_save += bool(list(folder.glob("checkpoints/*tmp*")))
        updates += checkpoints.steps()[-1:]
    assert updates == sorted(set(updates)) and updates[-1] < num_updates
    finish(start("killed.py", folder, num_updates, 0.5, 3600, **cache))
    pairs = zip(
        jax.tree.leaves(result_of(tmp_path / "whole" / "result.pickle")),
        jax.tree.leaves(result_of(folder / "result.pickle")),
        strict=True,
    )
    leaves = 0
    for whole, killed in pairs:
        np.testing.assert_array_equal(whole, killed)
        leaves += 1
    assert in_a_save > 0
    record_property(
        "evidence",
        f"20 kills, {in_a_save} of them in a save, after updates {updates}; "
        f"{leaves} leaves of 8 agents bitwise equal",
    )


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, record_property):
    """2 processes × 2 devices against 1 × 4, with a checkpoint and a resume between."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    finish(start("two_processes.py", port, 0, 0, alone))
    processes = [start("two_processes.py", port, 2, i, together) for i in range(2)]
    for process in processes:
        finish(process)
    expected = result_of(alone / "result_0.pickle")
    largest = 0.0
    for i in range(2):
        result = result_of(together / f"result_{i}.pickle")
        assert (result.pop("processes"), result.pop("devices")) == (2, 4)
        pairs = zip(
            jax.tree.leaves({k: expected[k] for k in result}),
            jax.tree.leaves(result),
            strict=True,
        )
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
            if a.dtype.kind == "f":
                largest = max(largest, float(np.nanmax(np.abs(a - b))))
    assert (alone / "metrics.csv").read_text() == (together / "metrics.csv").read_text()
    record_property("evidence", f"two processes: largest difference {largest}")


PEAK = r"""
import re, jax, rljax
jax.config.update("jax_num_cpu_devices", 2)
q = rljax.QLearning(
    exploration=rljax.exploration.EpsilonGreedy(0.1), rollout_length=100
)
agent, env, num_seeds, num_updates = {
    "tabular": (q, rljax.make("GridWorld-5x5"), 10_000, 20),
    "ppo": (rljax.PPO(), rljax.make("CartPole-v1"), 1_000, 2),
}[%r]
result = rljax.sweep(
    agent, env, jax.random.key(0), num_seeds=num_seeds, num_updates=num_updates
)
assert len(result.scores[0]) == num_seeds
# Not getrusage: its peak is that of the process which started this one, if higher.
status = open("/proc/self/status").read()
print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**10)
"""


@pytest.mark.slow
@pytest.mark.parametrize("which", ["tabular", "ppo"])
def test_the_peak_memory_of_many_seeds(which, record_property):
    out = subprocess.run(
        [sys.executable, "-c", PEAK % which],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    peak = float(out.split()[-1])
    record_property("evidence", f"{which}: peak memory {peak:.0f} MiB")
    assert peak < 2048
