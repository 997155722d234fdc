"""The command line: what a run leaves behind, bad input, and an interruption."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "train.py"
TINY = ["--num-envs", "2", "--rollout-length", "40", "--hidden-sizes", "8"]


@pytest.fixture(scope="module")
def train_script():
    spec = importlib.util.spec_from_file_location("train_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_script"] = module
    spec.loader.exec_module(module)
    return module


def run(train_script, *arguments):
    old = sys.argv
    sys.argv = ["train.py", *map(str, arguments)]
    try:
        return train_script.main()
    finally:
        sys.argv = old


@pytest.fixture(scope="module")
def output(train_script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    arguments = ["reinforce", *TINY, "--num-seeds", 3, "--num-updates", 6]
    arguments += ["--num-episodes", 5, "--learning-rate", 0.25, "--output", folder]
    arguments += ["--env-kwargs", "gravity", "12.5", "max_steps", "30"]
    for _ in range(2):
        assert run(train_script, *arguments) == 0
    return folder


def test_a_run_never_touches_an_older_one(output):
    folders = list(output.iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {
            "config.json",
            "metrics.csv",
            "evaluation.csv",
            "learning_curve.png",
        }


def test_two_runs_of_one_configuration_are_equal(output):
    first, second = output.iterdir()
    for name in ("metrics.csv", "evaluation.csv"):
        assert (first / name).read_text() == (second / name).read_text()


def test_the_configuration_is_exact(output):
    config = json.loads((next(output.iterdir()) / "config.json").read_text())
    assert config["agent_class"] == "Reinforce"
    assert config["agent"]["learning_rate"] == 0.25
    assert config["agent"]["hidden_sizes"] == [8]
    assert config["env_kwargs"] == {"gravity": 12.5, "max_steps": 30}
    assert config["num_updates"] == 6
    assert "jax" in config["versions"]


def test_the_metrics_are_one_row_per_seed_and_update(output):
    with open(next(output.iterdir()) / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 6
    assert {row["seed"] for row in rows} == {"0", "1", "2"}
    assert [int(row["steps"]) for row in rows[::3]] == [80 * u for u in range(1, 7)]
    for row in rows:
        # Two environments, fresh episodes of at most 30 steps: both always end.
        assert row["num_episodes"] == "2"
        assert 0 < float(row["episode_return"]) <= 30
        assert row["episode_return"] == row["episode_length"]
        assert np.isfinite(float(row["policy_loss"]))


def test_the_evaluation_is_one_row_per_seed_and_episode(output):
    with open(next(output.iterdir()) / "evaluation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 5
    assert all(0 < float(row["episode_return"]) <= 30 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "Pong"], "name must be one of 'CartPole-v1', got 'Pong'"),
        (["--env-kwargs", "mass", "1"], "CartPole-v1 has no parameter 'mass'"),
        (
            ["--env-kwargs", "half_length", "0"],
            "CartPole.half_length must be finite and more",
        ),
        (["--num-minibatches", "3"], "PPO.num_minibatches must divide"),
        (["--num-envs", "0"], "PPO.num_envs must be at least 1, got 0"),
        (["--discount", "1.5"], "PPO.discount must be in [0, 1], got 1.5"),
        (["--num-seeds", "0"], "--num-seeds must be at least 1, got 0"),
        (["--num-updates", "-5"], "--num-updates must be at least 1, got -5"),
        (["--seed", str(2**32)], "--seed must be below 2**32, got 4294967296"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--num-episodes", "0"], "--num-episodes must be at least 1"),
        (["--learning-rate", "fast"], "fast"),
        (["--output", str(SCRIPT)], "--output must be a folder"),
        (["--output", str(SCRIPT / "runs")], "--output must be a folder"),
        (["--output", "/proc/runs"], "--output must be a folder that can be written"),
    ],
)
def test_bad_input_ends_early_and_says_what_is_wrong(
    train_script, capsys, tmp_path, arguments, message
):
    if "--output" not in arguments:
        arguments = [*arguments, "--output", str(tmp_path / "runs")]
    try:
        status = run(train_script, *arguments)
    except SystemExit as exit_:  # how the command-line parser ends
        status = exit_.code
    assert status == 2
    printed = capsys.readouterr()
    words = " ".join((printed.out + printed.err).replace("│", " ").split())
    assert message in words
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_while_compiling_ends_cleanly(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/config.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    (folder,) = tmp_path.iterdir()
    assert str(folder) in out


def test_ctrl_c_keeps_what_is_done_and_says_where(tmp_path):
    arguments = ["--num-seeds", "2", "--num-updates", "400000"]
    arguments += ["--output", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "actor-critic", *TINY, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 120
    rows = 0
    while rows < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        found = list(tmp_path.glob("*/metrics.csv"))
        rows = len(found[0].read_text().splitlines()) if found else 0
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    (folder,) = tmp_path.iterdir()
    assert str(folder) in out
    assert "Interrupted after" in out
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "metrics.csv",
        "learning_curve.png",
    }
    with open(folder / "metrics.csv", newline="") as file:
        updates = [int(row["update"]) for row in csv.DictReader(file)]
    assert f"after {updates[-1]} of 400000" in out
