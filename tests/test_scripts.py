"""The command lines: what a run leaves behind, bad input, and an interruption."""

import builtins
import csv
import dis
import functools
import gzip
import importlib
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rljax
from rljax import commands
from rljax.experiment import cli, signals
from rljax.experiment.checkpoint import CheckpointError
from rljax.experiment.results import Outcome
from rljax.tabular.bandits import BanditCurves
from rljax.tabular.regret import ExactReturns
from rljax.training import Metrics

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "train.py"
TINY = ["--num-envs", "2", "--rollout-length", "40", "--hidden-sizes", "8"]


# A script that Ctrl-C reaches as in a terminal: tests that run in the background of a
# shell, as in CI, have it ignored, and so have their children.
INTERRUPTIBLE = (
    sys.executable,
    "-c",
    "import runpy, signal, sys;"
    "signal.signal(signal.SIGINT, signal.default_int_handler);"
    "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')",
)
COMMANDS = ("train", "sweep", "gridworld", "bandits", "lab", "rlhf")


def load(name):
    if name in COMMANDS:
        return importlib.import_module(f"rljax.commands.{name}")
    spec = importlib.util.spec_from_file_location(
        f"{name}_script", ROOT / "scripts" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def train_script():
    return load("train")


def run(script, *arguments):
    old = sys.argv
    name = script.__name__.removeprefix("rljax.commands.")
    sys.argv = [f"rljax {name}", *map(str, arguments)]
    try:
        return script.main()
    finally:
        sys.argv = old


def status_and_words(script, capsys, *arguments):
    """The exit status, however the script ends, and all that it printed."""
    try:
        status = run(script, *arguments)
    except SystemExit as exit_:  # how the command-line parser ends
        status = exit_.code
    printed = capsys.readouterr()
    return status, " ".join((printed.out + printed.err).replace("│", " ").split())


def assert_numbers_end_in_one_line(table):
    """Or 9.5 above 12.5 would look larger."""
    for column in table.columns:
        cells = [*column.cells]
        if any(cell[:1].isdigit() for cell in cells):
            assert column.justify == "right", column.header


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
            "checkpoints",
        }


def test_a_second_full_of_runs_is_refused(tmp_path, monkeypatch):
    tried = []

    def taken(folder, **_):
        tried.append(folder)
        raise FileExistsError

    monkeypatch.setattr(Path, "mkdir", taken)
    with pytest.raises(FileExistsError, match=r"--output .* is full of runs named 2"):
        cli.make_run_folder(tmp_path, "name")
    assert len({*tried}) == len(tried) > 100
    assert {folder.parent for folder in tried} == {tmp_path}


def test_two_runs_of_one_configuration_are_equal(output):
    first, second = output.iterdir()
    for name in ("metrics.csv", "evaluation.csv"):
        assert (first / name).read_text() == (second / name).read_text()


def test_a_configuration_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    cli.write_config(tmp_path, {"a": 1}, version="1")
    before = (tmp_path / "config.json").read_text()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli.os, "replace", full)
    with pytest.raises(OSError, match=r"config.json could not be written: No space"):
        cli.write_config(tmp_path, {"a": 2}, version="1")
    assert (tmp_path / "config.json").read_text() == before
    assert len([*tmp_path.iterdir()]) == 1


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
        (["--env", "Pong"], "name must be one of 'CartPole-v1', 'MountainCar-v0'"),
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
    status, words = status_and_words(train_script, capsys, *arguments)
    assert status == 2
    assert message in words
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("train", ["--env", "Pong"]),
        ("train", ["--resume", "nowhere"]),
        ("sweep", ["--grid", "mass=1"]),
        ("sweep", ["--resume", "nowhere"]),
        ("gridworld", ["--step-size", "7"]),
        ("bandits", ["--step-size", "2"]),
        ("rlhf", ["--output", str(SCRIPT)]),
    ],
)
def test_what_is_refused_is_said_among_the_errors(
    command, arguments, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where a run would leave its folder
    assert run(load(command), *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert not [*tmp_path.iterdir()]


TRAINING = dict.fromkeys(("num_seeds", "num_updates", "num_steps", "num_episodes"), 1)
LEAST = {
    "train": {**TRAINING, "keep_best": 1},
    "sweep": {**TRAINING, "keep_best": 1, "batch_size": 1},
    "gridworld": {"num_steps": 1, "num_points": 1, "num_seeds": 1},
    "bandits": {"num_bandits": 2, "num_pulls": 1, "num_arms": 2},
    "rlhf": {
        **{"vocabulary_size": 2, "horizon": 1, "num_prompts": 1, "num_updates": 1},
        **{"num_seeds": 2, "num_pairs": 1, "num_proxies": 2, "num_proxy_pairs": 1},
    },
}


@pytest.mark.parametrize("command", LEAST)
def test_flags_go_down_to_the_least_that_makes_sense(command):
    config = load(command).Config
    always = {"num_points": 1} if command == "gridworld" else {}  # divides num_steps
    for name, least in {**LEAST[command], "seed": 0}.items():
        assert getattr(config(**always | {name: least}), name) == least
        flag = f"--{name.replace('_', '-')}"
        message = f"{flag} must be at least {least}, got {least - 1}"
        with pytest.raises(ValueError, match=message):
            config(**always | {name: least - 1})


def test_compiled_programs_are_kept_where_one_says(tmp_path, monkeypatch):
    settings = {}
    monkeypatch.setattr(jax.config, "update", settings.__setitem__)
    cli.cache_compilations(None)
    assert settings == {}
    cli.cache_compilations(tmp_path / "new" / "programs")
    assert settings == {
        "jax_compilation_cache_dir": str(tmp_path / "new" / "programs"),
        # However quickly it compiled, and however small it is.
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    assert (tmp_path / "new" / "programs").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="--compilation-cache must be a folder.*file"):
        cli.cache_compilations(tmp_path / "file")


@pytest.mark.slow
def test_a_second_process_finds_the_compiled_programs(tmp_path):
    command = [sys.executable, SCRIPT, "ppo", *TINY, "--num-updates", "2"]
    command += ["--num-seeds", "2", "--num-episodes", "2"]
    command += ["--output", tmp_path / "runs"]
    command += ["--compilation-cache", tmp_path / "programs"]

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def entries():
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return {path.name for path in (tmp_path / "programs").glob("*-cache")}

    first = entries()
    assert first
    assert entries() == first


@pytest.mark.slow
def test_ctrl_c_while_compiling_ends_cleanly(tmp_path):
    process = subprocess.Popen(
        [*INTERRUPTIBLE, str(SCRIPT), "--output", str(tmp_path)],
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


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_where(tmp_path):
    arguments = ["--num-seeds", "2", "--num-updates", "400000"]
    arguments += ["--output", str(tmp_path)]
    process = subprocess.Popen(
        [*INTERRUPTIBLE, str(SCRIPT), "actor-critic", *TINY, *arguments],
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
        "checkpoints",
    }
    assert f"--resume {folder}" in out
    with open(folder / "metrics.csv", newline="") as file:
        updates = [int(row["update"]) for row in csv.DictReader(file)]
    assert f"after {updates[-1]} of 400000" in out


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(train_script, tmp_path, capsys):
    arguments = ["actor-critic", *TINY, "--num-seeds", 2, "--num-episodes", 3]
    for name, num_updates in (("whole", 5), ("part", 3)):
        output = tmp_path / name
        assert (
            run(
                train_script,
                *arguments,
                "--num-updates",
                num_updates,
                "--output",
                output,
            )
            == 0
        )
    (whole,), (part,) = (list((tmp_path / n).iterdir()) for n in ("whole", "part"))
    assert run(train_script, "--resume", part, "--num-updates", 5) == 0
    for name in ("metrics.csv", "evaluation.csv"):
        assert (part / name).read_text() == (whole / name).read_text()
    # Another learning rate is another run; what is there stays.
    capsys.readouterr()
    status, words = status_and_words(
        train_script, capsys, "--resume", part, "--learning-rate", 0.5
    )
    assert status == 1
    assert "agents[0].learning_rate is" in words and "0.5 here" in words
    assert (part / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def test_another_length_takes_the_place_of_the_saved_one(tmp_path, monkeypatch):
    content = {"subcommand": "train", "arguments": ["ppo", "--num-steps", "300"]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    given = ["--resume", str(tmp_path)]
    for more, saved in (
        ([], ["ppo", "--num-steps", "300"]),
        (["--num-updates", "4"], ["ppo"]),
        (["--num-steps=600"], ["ppo"]),
    ):
        monkeypatch.setattr(sys, "argv", ["rljax train", *given, *more])
        assert cli.arguments() == [*saved, *given, *more]


def test_a_run_without_flags_has_none(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert cli.arguments() == []
    monkeypatch.setattr(sys, "argv", ["train.py", "ppo", "--num-seeds", "2"])
    assert cli.arguments() == ["ppo", "--num-seeds", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--resume must name the folder of a run, but"),
        ("{}", "is no configuration of a run"),
        ("[", "is no configuration of a run"),
        ('{"subcommand": "sweep", "arguments": []}', "is a run of `rljax sweep`"),
    ],
)
def test_a_folder_that_is_no_run_can_not_be_resumed(
    train_script, capsys, tmp_path, content, message
):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    status, words = status_and_words(train_script, capsys, "--resume", tmp_path)
    assert status == 2
    assert message in words


@pytest.fixture(scope="module")
def sweep_script():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return load("sweep")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def test_sweep_compares_settings_and_resumes(sweep_script, tmp_path, capsys):
    arguments = ["reinforce", *TINY, "--grid", "learning_rate=1e-3,1e30"]
    arguments += ["env.gravity=9.8,20", "--num-seeds", 2, "--num-episodes", 3]
    status, words = status_and_words(
        sweep_script, capsys, *arguments, "--num-updates", 4, "--output", tmp_path
    )
    assert status == 0
    assert "4 settings of Reinforce" in words
    assert "broken: setting 'learning_rate=1e+30, env.gravity=9.8', seed 0" in words
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "metrics.csv",
        "evaluation.csv",
        "summary.csv",
        "sweep.png",
        "checkpoints",
    }
    assert len(rows_of(folder / "metrics.csv")) == 4 * 2 * 4
    assert len(rows_of(folder / "evaluation.csv")) == 4 * 2 * 3
    rows = rows_of(folder / "summary.csv")
    assert [row["num_broken"] for row in rows] == ["0", "0", "2", "2"]
    assert rows[0]["learning_rate"] == "0.001" and float(rows[0]["iqm"]) > 0
    assert run(sweep_script, "--resume", folder, "--num-updates", 6) == 0
    assert len(rows_of(folder / "metrics.csv")) == 4 * 2 * 6


@pytest.mark.parametrize(
    ("length", "asked"),
    [
        ((), {"num_steps": 7 * 80}),
        (("--num-steps", "9999"), {"num_steps": 7 * 80}),
        (("--num-updates", "9999"), {"num_updates": 7}),
    ],
)
def test_a_sweep_is_asked_for_again_up_to_an_update(sweep_script, length, asked):
    grid = ["--grid", "num_envs=4,2,3", "env.gravity=9.8,20"]
    arguments = ["reinforce", *TINY, *grid, "--env-kwargs", "max_steps", "30", *length]
    config = sweep_script.parse(arguments)
    # Of updates, those of two environments are the shortest: 40 steps of each.
    assert sweep_script.swept(config, 7) == {
        "agent": config.agent,
        "env": rljax.make("CartPole-v1", max_steps=30),
        "settings": {"num_envs": [4, 2, 3], "env.gravity": [9.8, 20]},
        **asked,
    }


def test_the_table_counts_evaluation_episodes_that_were_cut(sweep_script):
    def outcome(name, finished):
        finished = np.array(finished)
        evaluation = rljax.Evaluation(np.ones(finished.shape), finished, finished)
        faults = np.full(len(finished), -1)
        state = rljax.TrainState((), (), None)
        return Outcome({"x": name}, None, None, state, None, evaluation, faults)

    whole = outcome("whole", [[True, True], [True, True]])
    cut = outcome("cut", [[False, True], [False, False]])
    tables = [
        sweep_script.summary_table(rljax.SweepResult({}, outcomes, 1, ()))
        for outcomes in ((whole, cut), (whole, whole))
    ]
    columns = [{c.header: list(c.cells) for c in table.columns} for table in tables]
    assert columns[0]["x"] == ["whole", "cut"]
    assert columns[0]["episodes cut"] == ["0", "3"]
    assert_numbers_end_in_one_line(tables[0])
    assert "episodes cut" not in columns[1]


@pytest.mark.parametrize("best", [(), ({"w": np.ones(3)}, np.ones(3))])
@pytest.mark.parametrize("greedy", [True, False])
def test_an_evaluation_says_which_policy_and_parameters_played(best, greedy):
    ones = np.ones((3, 2), bool)
    evaluation = rljax.Evaluation(ones, ones, ones, greedy)
    state = rljax.TrainState((), (), None)._replace(best=best)
    words = cli.evaluation_title(Outcome({}, None, None, state, None, evaluation, None))
    assert words.startswith("Greedy " if greedy else "Sampled ")
    assert ("best parameters" in words) == (best != ())


def test_a_command_that_was_interrupted_ends_as_the_signal_says(monkeypatch, tmp_path):
    ends = []
    monkeypatch.setattr(os, "_exit", ends.append)

    def interrupt():
        raise KeyboardInterrupt

    asked = signals.Asked()
    cli.report_end(tmp_path, interrupt, asked)
    cli.report_end(tmp_path, lambda: cli.INTERRUPTED)
    asked.number = signal.SIGTERM
    cli.report_end(tmp_path, lambda: cli.INTERRUPTED, asked)
    assert ends == [130, 130, 143]  # as shells write them
    assert [cli.report_end(tmp_path, lambda s=s: s) for s in (0, 1, 2)] == [0, 1, 2]
    assert len(ends) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "learning_rate"], "--grid takes name=value,value"),
        (["--grid", "mass=1"], "PPO has no field for 'mass'"),
        (["--grid", "learning_rate=-1"], "PPO.learning_rate must be"),
        (["--num-updates", "2", "--num-steps", "9"], "say the same, give one of them"),
        (["--keep-best", "9", "--num-updates", "2"], "--keep-best must be at most the"),
        (
            ["--grid", "num_envs=1,9", "--num-steps", "9"],
            "--num-steps must be at least",
        ),
        (["--grid", "activation=tanh,sin"], "PPO.activation must be one of"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--keep-checkpoints", "0"], "--keep-checkpoints must be at least 1, got 0"),
        (["--save-interval", "-1"], "--save-interval must be 0 seconds or more"),
    ],
)
def test_sweep_refuses_bad_input(sweep_script, capsys, tmp_path, arguments, message):
    output = tmp_path / "runs"
    status, words = status_and_words(
        sweep_script, capsys, *arguments, "--output", output
    )
    assert status == 2
    assert message in words
    assert not output.exists()


def grid_agent(*arguments):
    gridworld = load("gridworld")
    config = gridworld.tyro.cli(gridworld.Config, args=arguments)
    return gridworld.make_agent(config, gridworld.make_env(config)[1])


def test_gridworld_s_defaults_suit_the_grid():
    # 80 points; with slip more and ever smaller steps.
    agent = grid_agent()
    assert (agent.step_size, 80 * agent.rollout_length) == (0.1, 12_560)  # 25 × 500
    agent = grid_agent("--env", "FrozenLake-4x4")
    assert 80 * agent.rollout_length == 16 * 16_000
    np.testing.assert_allclose(
        [agent.step_size(step) for step in (0, 128_000, 256_000)], [0.5, 0.25, 0]
    )
    agent = grid_agent("--env", "FrozenLake-4x4", "--step-size", "0.2")
    assert agent.step_size == 0.2


@pytest.mark.slow
@pytest.mark.parametrize("env", ["CliffWalking", "GridWorld-5x5", "FrozenLake-4x4"])
def test_gridworld_s_defaults_succeed(env, tmp_path, capsys):
    arguments = ["--env", env, "--num-seeds", 20, "--output", tmp_path]
    status, words = status_and_words(load("gridworld"), capsys, *arguments)
    assert (status, "20 of 20" in words, "note:" in words) == (0, True, False)


@pytest.mark.parametrize(
    ("q_values", "regret", "words"),
    [
        ([[0, 0], [0, 0]], [[1.0, 1], [1, 1]], "2 of 2 seeds never saw a reward"),
        ([[0, 0], [1, 0]], [[1.0, 1], [1, 1]], "1 of 2 seeds never saw a reward"),
        ([[2, 0], [1, 0]], [[1.0, 1], [1, 0]], "in 1 of 2 seeds the greedy policy is"),
        ([[2, 0], [1, 0]], [[1.0, 0], [0, 0]], None),
    ],
)
def test_gridworld_says_what_to_try_where_nothing_was_learned(q_values, regret, words):
    curve = types.SimpleNamespace(greedy_regret=np.array(regret))
    found = load("gridworld").advice(
        rljax.QLearning(), np.array(q_values, float)[:, None], curve
    )
    assert len(found) == (words is not None)
    assert words is None or (words in found[0] and "--num-steps" in found[0])


def test_a_run_is_loaded_as_it_ended(output):
    first = sorted(output.iterdir())[0]
    run = rljax.load_run(first, seed=2)
    assert (run.agent.learning_rate, run.seed, run.setting) == (0.25, 2, "default")
    assert run.env.env.gravity == 12.5
    rows = [row for row in rows_of(first / "metrics.csv") if row["seed"] == "2"]
    np.testing.assert_allclose(
        run.metrics.agent["policy_loss"], [float(r["policy_loss"]) for r in rows]
    )
    # It plays as the run's own evaluation says that it did.
    keys = jax.random.split(jax.random.split(jax.random.key(0))[1], 3)
    played = rljax.evaluate(
        run.agent, run.agent_state, run.env, keys[2], num_episodes=5
    )
    rows = [row for row in rows_of(first / "evaluation.csv") if row["seed"] == "2"]
    np.testing.assert_array_equal(
        played.episode_returns, [float(row["episode_return"]) for row in rows]
    )
    assert repr(run) == ("Run(Reinforce on TimeLimit, default, seed 2 of 3, 6 updates)")


def test_a_policy_goes_elsewhere_as_a_program_and_as_numbers(output, tmp_path):
    run = rljax.load_run(sorted(output.iterdir())[0])
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(50, 4)).astype(np.float32)
    actions = [int(run.policy(obs)) for obs in observations]
    assert set(actions) == {0, 1}

    run.save_weights(tmp_path / "weights.npz")
    weights = np.load(tmp_path / "weights.npz")
    assert {name: x.shape for name, x in weights.items()} == {
        "params.0.kernel": (4, 8),
        "params.0.bias": (8,),
        "params.1.kernel": (8, 2),
        "params.1.bias": (2,),
    }
    hidden = np.maximum(
        observations @ weights["params.0.kernel"] + weights["params.0.bias"], 0
    )
    logits = hidden @ weights["params.1.kernel"] + weights["params.1.bias"]
    np.testing.assert_array_equal(logits.argmax(-1), actions)

    program = run.export(tmp_path / "policy")
    assert program.platforms == ("cpu", "cuda", "tpu")
    np.save(tmp_path / "observations.npy", observations)
    # In a process that knows nothing of rljax.
    code = f"""
import sys, jax.export, numpy as np
sys.modules["rljax"] = None
program = jax.export.deserialize(open({str(tmp_path / "policy")!r}, "rb").read())
for obs in np.load({str(tmp_path / "observations.npy")!r}):
    print(int(program.call(obs)))
"""
    status, out, error = called("-c", code)
    assert (status, [*map(int, out.split())]) == (0, actions), error
    for save in (run.export, run.save_weights):
        with pytest.raises(FileExistsError):
            save(tmp_path / "policy")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "folder must be that of a run of `rljax train`"),
        ("[", ValueError, "is no configuration of a run"),
        ('{"subcommand": "rlhf", "arguments": []}', ValueError, "keeps no state"),
        ('{"subcommand": "train", "arguments": []}', CheckpointError, "no checkpoint"),
    ],
)
def test_what_is_no_run_can_not_be_loaded(content, error, message, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(error, match=message):
        rljax.load_run(tmp_path)


def test_a_seed_that_there_is_not_is_refused(output):
    with pytest.raises(ValueError, match="seed must be in .*2.*, got 3|at most 2"):
        rljax.load_run(sorted(output.iterdir())[0], seed=3)


@pytest.mark.slow
def test_a_swept_run_is_loaded_by_its_setting(sweep_script, tmp_path):
    arguments = ["actor-critic", *TINY, "--num-seeds", 2, "--num-episodes", 2]
    arguments += ["--grid", "num_envs=2,4", "--num-steps", 480, "--output", tmp_path]
    assert run(sweep_script, *arguments) == 0
    (folder,) = tmp_path.iterdir()
    loaded = rljax.load_run(folder, setting={"num_envs": 4}, seed=1)
    assert loaded.agent.num_envs == 4
    assert len(loaded.metrics.num_episodes) == 3
    assert len(rljax.load_run(folder, setting=0).metrics.num_episodes) == 6


def called(*words, **variables):
    """The exit status and the bytes that a process of this Python prints."""
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_program_lists_its_commands_and_refuses_others():
    status, out, _ = called("-m", "rljax")
    assert status == 0
    assert all(f"\n  {name} ".encode() in out for name in COMMANDS)


def test_the_program_says_its_version_and_refuses_unknown_commands(capsys, monkeypatch):
    def program(word):
        monkeypatch.setattr(sys, "argv", ["rljax", word])
        return commands.main(), capsys.readouterr()

    status, printed = program("--version")
    assert status == 0
    assert printed.out == f"rljax {rljax.__version__}\n"
    status, printed = program("trian")
    assert status == 2
    assert "error: no command 'trian'" in printed.err


@pytest.mark.parametrize(
    ("package", "command", "extra"), [("tyro", "train", "cli"), ("bokeh", "lab", "lab")]
)
def test_a_missing_extra_is_named(package, command, extra):
    code = f"import sys; sys.modules[{package!r}] = None; from rljax import commands;"
    status, _, error = called("-c", f"{code} sys.exit(commands.main({command!r}))")
    assert status == 1
    assert f"pip install 'rljax-core[{extra}]'".encode() in error


@pytest.mark.parametrize(
    "encoding",
    ["cp1252", *(pytest.param(e, marks=pytest.mark.slow) for e in ("ascii", "utf-8"))],
)
def test_output_in_any_encoding_has_plain_letters(encoding):
    code = (
        "import sys; from rljax import commands; sys.argv = ['rljax'];"
        "commands.main(); print('↓ γ × ☃')"
    )
    status, out, _ = called("-c", code, PYTHONIOENCODING=encoding)
    assert status == 0
    wanted = {
        "utf-8": "↓ γ × ☃",
        "cp1252": "v gamma × ?",
        "ascii": "v gamma x ?",
    }
    assert out.decode(encoding).splitlines()[-1] == wanted[encoding]


def test_letters_that_an_encoding_lacks_are_plain_and_bytes_no_letters_an_error():
    lacking = UnicodeEncodeError("ascii", "a γ↓☃ z", 2, 5, "no such letters")
    assert commands._plain(lacking) == ("gammav?", 5)
    broken = UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "no letter")
    with pytest.raises(UnicodeDecodeError, match="no letter"):
        commands._plain(broken)


def test_each_command_has_a_script_for_a_checkout():
    for name in COMMANDS:
        text = (ROOT / "scripts" / f"{name}.py").read_text(encoding="utf-8")
        assert f'sys.exit(commands.main("{name}"))' in text
        assert name in commands.COMMANDS


def test_gridworld_plans_learns_and_saves(tmp_path, capsys):
    arguments = ["--num-steps", 4000, "--num-points", 8, "--num-seeds", 4]
    script = load("gridworld")
    status, words = status_and_words(
        script, capsys, *arguments, "--env-kwargs", "slip", 0.0, "--output", tmp_path
    )
    assert status == 0
    assert "0.86 0.88 0.90 0.92 0.94 ↓ → ↓ → ↓" in words
    assert "4 of 4" in words
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "regret.csv",
        "gridworld.png",
    }
    rows = rows_of(folder / "regret.csv")
    assert len(rows) == 4 * 9
    assert [int(row["steps"]) for row in rows[:9]] == [500 * k for k in range(9)]
    for row in rows[8::9]:
        assert float(row["greedy_return"]) == pytest.approx(0.8641307, abs=1e-5)


def test_gridworld_takes_a_map_and_warns_of_what_it_lacks(tmp_path, capsys):
    path = tmp_path / "lost.txt"
    path.write_text("A.#G\n..#.\n", encoding="utf-8")
    arguments = ["--num-steps", 40, "--num-points", 2, "--num-seeds", 2]
    status, words = status_and_words(
        load("gridworld"), capsys, "--map", path, *arguments, "--output", tmp_path
    )
    assert status == 0
    assert "warning: the goal at (0, 3) is unreachable" in words


@pytest.fixture
def exact_returns():
    """What `gridworld` has measured, made up: four seeds and 21 points.

    The regret falls in a straight line from as much as the seed's number times 2.
    """
    falling = np.linspace(2, 0, 21)
    regrets = np.outer(np.arange(4), falling)
    best = np.full(4, 5.0)
    behaviour = best[:, None] - regrets - 1
    return ExactReturns(np.arange(21), best[:, None] - regrets, behaviour, best)


def test_the_table_of_gridworld_is_the_regret_at_some_times(exact_returns):
    table = load("gridworld").regret_table(1000 * np.arange(21), exact_returns)
    titles = [column.header for column in table.columns]
    assert titles == ["steps", "greedy policy", "", "behaviour", "optimal seeds"]
    steps, greedy, bars, behaviour, optimal = (list(c.cells) for c in table.columns)
    assert steps == ["0", *(f"{2 * k},000" for k in range(1, 11))]
    for i, falling in enumerate(np.linspace(2, 0, 11)):
        half = stats.t.ppf(0.975, 3) * stats.sem(falling * np.arange(4))
        assert greedy[i] == f"{1.5 * falling:.4f} ± {half:.4f}"
        assert bars[i] == (20 - 2 * i) * "█"
        assert behaviour[i] == f"{1.5 * falling + 1:.4f}"
    assert optimal == [*10 * ["1 of 4"], "4 of 4"]
    assert_numbers_end_in_one_line(table)
    assert table.caption.startswith("± half of the 95 % interval over 4 seeds. From")


def test_the_table_of_gridworld_has_no_interval_of_one_seed(exact_returns):
    def columns(seed):
        alone = exact_returns._replace(
            greedy=exact_returns.greedy[[seed]],
            behaviour=exact_returns.behaviour[[seed]],
            optimal=exact_returns.optimal[[seed]],
        )
        table = load("gridworld").regret_table(np.arange(21), alone)
        assert table.caption.startswith("From the model")
        return [list(column.cells) for column in table.columns]

    _, greedy, bars, _, optimal = columns(2)
    assert greedy[:2] == ["4.0000", "3.6000"]
    assert (len(bars[0]), optimal[0], optimal[-1]) == (20, "0 of 1", "1 of 1")
    _, greedy, bars, _, _ = columns(0)  # no regret at all
    assert ({*greedy}, {*bars}) == ({"0.0000"}, {""})


def test_the_curve_of_gridworld_has_a_row_per_seed_and_point(exact_returns, tmp_path):
    path = tmp_path / "regret.csv"
    load("gridworld").write_curve(path, 10 * np.arange(21), exact_returns)
    rows = [[float(x) for x in row.values()] for row in rows_of(path)]
    np.testing.assert_allclose(
        rows,
        [
            [seed, 10 * k, 5 - seed * (2 - k / 10), 4 - seed * (2 - k / 10), 5]
            for seed in range(4)
            for k in range(21)
        ],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "CartPole-v1"], "--env must be a grid, got 'CartPole-v1'"),
        (["--map", "nowhere.txt"], "--map must be a text file"),
        (["--env-kwargs", "slip", "2"], "GridWorld.slip must be in [0, 1], got 2.0"),
        (["--parameter", "1.5"], "EpsilonGreedy.epsilon must be in [0, 1], got 1.5"),
        (["--step-size", "7"], "QLearning.step_size must be in [0, 1], got 7.0"),
        (["--discount", "1"], "--discount must be in [0, 1), got 1.0"),
        (
            ["--num-points", "7", "--num-steps", "8"],
            "--num-points must divide --num-steps",
        ),
        (["--num-seeds", "0"], "--num-seeds must be at least 1, got 0"),
    ],
)
def test_gridworld_refuses_bad_input(arguments, message, tmp_path, capsys):
    script = load("gridworld")
    output = tmp_path / "runs"
    status, words = status_and_words(script, capsys, *arguments, "--output", output)
    assert status == 2
    assert message in words
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["bernoulli", pytest.param("gaussian", marks=pytest.mark.slow)]
)
def test_bandits_compares_all_rules_and_saves(family, tmp_path, capsys):
    arguments = ["--bandit", family, "--num-bandits", 20, "--num-pulls", 50]
    status, words = status_and_words(
        load("bandits"), capsys, *arguments, "--no-grid", "--output", tmp_path
    )
    assert status == 0
    for rule in ("ε-greedy", "softmax", "UCB1", "KL-UCB", "Thompson", "Lai–Robbins"):
        assert rule in words
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "curves.csv",
        "bandits.png",
    }
    rows = rows_of(folder / "curves.csv")
    assert len(rows) == 8 * 50
    for row in rows:
        low, mean, high = (
            float(row[f"expected_regret{end}"]) for end in ("_low", "", "_high")
        )
        assert low <= mean <= high
        assert 0 <= float(row["share_optimal"]) <= 1


def documented():
    """What is told of the numbers by the scripts, in one line."""
    text = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
    return " ".join(text.split())


def test_the_defaults_of_bandits_are_those_of_its_numbers():
    script = load("bandits")
    config = script.Config()
    assert script.make_env(config) == rljax.GaussianBandit()
    assert script.make_env(script.Config("bernoulli")) == rljax.BernoulliBandit()
    words = f"with noise {config.noise_scale} and {config.num_pulls} pulls"
    assert words in documented()
    assert f"# {config.num_bandits:,} Gaussian bandits" in script.__doc__


def rules_of(**flags):
    """By rule, its settings by label."""
    script = load("bandits")
    rules = script.make_agents(script.Config(**flags))
    assert {*rules} > {*script.PUBLISHED}
    return rules


@pytest.mark.parametrize(
    ("loc", "scale", "noise"), [(1.0, 0.5, 0.3), (-2.0, 3.0, 0.7), (0.0, 0.1, 4.0)]
)
def test_rules_for_bandits_are_set_by_the_scale_of_the_rewards(loc, scale, noise):
    rules = rules_of(mean_loc=loc, mean_scale=scale, noise_scale=noise, step_size=0.2)

    def explorations(name):
        return [agent.exploration for agent in rules[name].values()]

    # The first is what it says, the others are smaller and larger ones.
    scales = np.array([rule.scale for rule in explorations("UCB1")])
    np.testing.assert_allclose(scales[0], 2 * (scale + noise))
    np.testing.assert_allclose(scales / scales[0], [1, 0.1, 0.25, 2])
    for name in ("KL-UCB", "Thompson"):
        sigmas = [rule.noise_scale for rule in explorations(name)]
        np.testing.assert_allclose(np.divide(sigmas, noise), [1, 1 / 3, 2, 5])
    for rule in explorations("Thompson"):
        assert (rule.prior_mean, rule.prior_scale) == (loc, scale)
    # From what one arm in 44 is better than, up to what none is.
    optimistic = [agent.initial_value for agent in rules["optimistic"].values()]
    least = min(optimistic)
    np.testing.assert_allclose(stats.norm(loc, scale).sf(least), stats.norm.sf(2))
    np.testing.assert_allclose(np.subtract(optimistic, least), [1, 0, 3, 10])
    assert {agent.step_size for agent in rules["UCB"].values()} == {0.2}


@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_the_settings_of_a_rule_are_what_their_labels_say(family):
    def number(name, agent):
        rule = agent.exploration
        return {
            "ε-greedy": lambda: rule.epsilon,
            "softmax": lambda: rule.temperature,
            "UCB": lambda: rule.c,
            "UCB1": lambda: rule.scale,
            "gradient": lambda: agent.step_size,
            "optimistic": lambda: agent.initial_value,
            "KL-UCB": lambda: rule.c if family == "bernoulli" else rule.noise_scale,
            "Thompson": lambda: (
                rule.prior_wins if family == "bernoulli" else rule.noise_scale
            ),
        }[name]()

    rules = rules_of(bandit=family)
    for name, settings in rules.items():
        assert len(settings) > 1
        for label, agent in settings.items():
            value = float(label.split("=")[1])
            np.testing.assert_allclose(value, number(name, agent), rtol=1e-5)
            assert agent.discount == 0
    for name, settings in rules_of(bandit=family, grid=False).items():
        assert [*settings] == [*rules[name]][:1]


@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_the_grids_of_bandits_have_no_wide_gaps(family):
    for name, settings in rules_of(bandit=family).items():
        values = np.sort([float(label.split("=")[1]) for label in settings])
        values = values[values > 0]
        ratios = values[1:] / values[:-1]
        assert ratios.min() > 1 and ratios.max() <= 4, name
        assert values[-1] / values[0] >= 3, name
    rules = rules_of()
    for name in ("ε-greedy", "UCB", "softmax"):  # the first is the published one
        label = next(iter(rules[name])).replace("=", " = ")
        assert f"{name} ({label})" in documented()


@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_the_lower_bound_of_bandits_is_that_of_each_arm_by_hand(family):
    script = load("bandits")
    means = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4))
    pulls = np.array([1, 4, 30, 100_000])
    expected = np.zeros((3, 4))
    for i, arms in enumerate(means):
        for k, t in enumerate(pulls):
            for arm in arms[arms < arms.max()]:
                gap = arms.max() - arm
                divergence = (
                    stats.entropy([arm, 1 - arm], [arms.max(), 1 - arms.max()])
                    if family == "bernoulli"
                    else gap**2 / (2 * 0.4**2)
                )
                expected[i, k] += min(gap / divergence * np.log(t), gap * t)
    bound = script.lower_bound(
        script.Config(family, noise_scale=0.4),
        {"rule": BanditCurves(pulls, *np.zeros((3, 3, 1, 4)))},
        means,
    )
    np.testing.assert_allclose(bound, expected.mean(0), rtol=1e-4)


@pytest.fixture
def bandit_curves():
    """What `bandits` has measured, made up: seven bandits, and two times."""
    rng = np.random.default_rng(0)
    labels = {"ε-greedy": ["a", "b", "c"], "softmax": ["d"], "UCB": ["e"]}

    def curves(grid):
        regrets = rng.uniform(1, 9, (2, 7, len(grid), 2))
        optimal = rng.integers(1, 10, (7, len(grid), 2))
        return BanditCurves(np.array([10, 40]), *regrets, optimal)

    curves = {name: curves(grid) for name, grid in labels.items()}
    curves["ε-greedy"].expected_regret[:, 1] /= 100  # its best setting
    return curves, labels


def test_the_table_of_bandits_is_where_the_curves_end(bandit_curves):
    curves, labels = bandit_curves
    script = load("bandits")
    table = script.summary_table(script.Config(), *bandit_curves, np.array([1.0, 2.5]))
    columns = {c.header.replace("\n", " "): list(c.cells) for c in table.columns}
    assert columns["rule"] == ["ε-greedy", "", "", "softmax", "UCB", "Lai–Robbins"]
    assert columns["setting"] == ["a", "b *", "c", "d", "e", ""]
    assert columns["expected regret"].pop() == "2.5"
    assert_numbers_end_in_one_line(table)
    ends = [(curves[name], i) for name in labels for i in range(len(labels[name]))]
    for row, (curve, i) in enumerate(ends):
        for header, scores in (
            ("expected regret", curve.expected_regret),
            ("realised regret", curve.realised_regret),
        ):
            last = scores[:, i, 1]
            half = stats.t.ppf(0.975, 6) * stats.sem(last)
            assert columns[header][row] == f"{last.mean():.1f} ± {half:.1f}"
        share = 100 * curve.optimal_pulls[:, i, 1].mean() / 40
        assert columns["optimal"][row] == f"{share:.1f} %"
    firsts = np.stack([c.expected_regret[:, 0, 1] for c in curves.values()])
    wins = np.bincount(firsts.argmin(0), minlength=3) / 7
    least = [columns["least"][i] for i in (0, 3, 4)]
    assert least == [f"{100 * share:.0f} %" for share in wins]
    for name, share in zip(labels, wins, strict=True):
        assert f"{name} {100 * share:.1f} %" in table.caption


def test_the_curves_of_bandits_are_written_with_their_intervals(
    bandit_curves, tmp_path
):
    curves, labels = bandit_curves
    load("bandits").write_curves(tmp_path / "curves.csv", *bandit_curves)
    rows = iter(rows_of(tmp_path / "curves.csv"))
    for name, curve in curves.items():
        shares = curve.optimal_pulls / [10, 40]
        for (i, label), (k, pulls) in itertools.product(
            enumerate(labels[name]), enumerate((10, 40))
        ):
            row = next(rows)
            assert (row["rule"], row["setting"]) == (name, label)
            assert row["pulls"] == str(pulls)
            for column, scores in (
                ("expected_regret", curve.expected_regret),
                ("realised_regret", curve.realised_regret),
                ("share_optimal", shares),
            ):
                mean = scores[:, i, k].mean()
                half = stats.t.ppf(0.975, 6) * stats.sem(scores[:, i, k])
                found = [float(row[column + end]) for end in ("_low", "", "_high")]
                expected = [mean - half, mean, mean + half]
                np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert not [*rows]


@pytest.mark.parametrize("drift", [None, 0.1])
def test_bandits_tells_of_what_was_played(drift, tmp_path, capsys, monkeypatch):
    script = load("bandits")
    rng = np.random.default_rng(0)
    asked, drawn = [], []

    def compare_bandits(agents, env, key, *, num_bandits, num_pulls):
        asked.append((agents, env, num_bandits, num_pulls))
        assert (
            jax.random.key_data(key) == jax.random.key_data(jax.random.key(3))
        ).all()
        curves = {
            name: BanditCurves(
                np.array([20, 40]), *rng.uniform(1, 9, (3, 7, len(g), 2))
            )
            for name, g in agents.items()
        }
        return curves, rng.normal(size=(7, 3))

    def save(*arguments, **named):
        drawn.append((arguments, named))

    monkeypatch.setattr(script.bandits, "compare_bandits", compare_bandits)
    monkeypatch.setattr(script, "lower_bound", lambda *_: np.array([1.0, 2.5]))
    monkeypatch.setattr(script.plotting, "save_bandit_curves", save)
    arguments = ["--num-bandits", 7, "--num-pulls", 40, "--num-arms", 3, "--seed", 3]
    arguments += ["--output", tmp_path]
    arguments += [] if drift is None else ["--drift-scale", drift]
    status, words = status_and_words(script, capsys, *arguments)
    assert status == 0, words
    config = script.Config(num_arms=3, drift_scale=drift)
    rules = script.make_agents(config)
    grids = {name: list(grid.values()) for name, grid in rules.items()}
    assert asked == [(grids, script.make_env(config), 7, 40)]
    assert "8 rules, 32 settings × 7 gaussian bandits × 40 pulls = 8,960 pulls" in words
    assert "After 40 pulls" in words
    # No bound is known where the means drift.
    (((picture, curves, labels), named),) = drawn
    assert (named["lower_bound"] is None) == (drift is not None)
    assert ("Lai–Robbins 2.5" in words) == (drift is None)
    assert labels == {name: list(grid) for name, grid in rules.items()}
    assert [*curves] == [*rules]
    (folder,) = tmp_path.iterdir()
    assert picture == folder / "bandits.png"
    assert len(rows_of(folder / "curves.csv")) == 32 * 2
    saved = json.loads((folder / "config.json").read_text())
    assert (saved["num_arms"], saved["drift_scale"]) == (3, drift)
    assert words.endswith(f"compilation included. Saved in {folder}")


def test_bandits_on_which_rules_tie_are_shared():
    def curves(*ends):  # of the first setting, and another that does not count
        regrets = np.stack([ends, np.zeros(len(ends))], 1)[..., None]
        return BanditCurves(np.ones(1), np.pad(regrets, 3 * ((0, 0),)), regrets, None)

    shares = load("bandits").least_regret(
        {"a": curves(1.0, 1.0, 5.0, 0.0), "b": curves(2.0, 1.0, 4.0, 1.0)}
    )
    assert shares == {"a": 0.625, "b": 0.375}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-bandits", "1"], "--num-bandits must be at least 2, got 1"),
        (["--num-pulls", "0"], "--num-pulls must be at least 1, got 0"),
        (["--noise-scale", "0"], "--noise-scale and --mean-scale must be more than 0"),
        (["--drift-scale", "-1"], "GaussianBandit.drift_scale must be finite and at"),
        (["--step-size", "2"], "QLearning.step_size must be in [0, 1], got 2.0"),
    ],
)
def test_bandits_refuses_bad_input(arguments, message, tmp_path, capsys):
    script = load("bandits")
    output = tmp_path / "runs"
    status, words = status_and_words(script, capsys, *arguments, "--output", output)
    assert status == 2
    assert message in words
    assert not output.exists()


@pytest.fixture(scope="module")
def benchmark_script():
    folders = [str(ROOT / "scripts"), str(ROOT / "scripts" / "contenders")]
    sys.path[:0] = folders
    try:
        yield load("benchmark")
    finally:
        for folder in folders:
            sys.path.remove(folder)


@pytest.mark.slow
def test_the_benchmark_checks_the_work_it_times(benchmark_script, capsys, tmp_path):
    output = tmp_path / "figures.json"
    arguments = ["--quick", "--no-neighbours", "--repeats", 1, "--output", output]
    arguments += ["--suites", "rollout", "ppo_pendulum", "ppo_breakout"]
    status, words = status_and_words(benchmark_script, capsys, *arguments)
    assert status == 0, words
    text = output.read_text(encoding="utf-8")
    content = json.loads(text)
    assert content["header"]["rljax"] == rljax.__version__
    rows = {
        (row["case"].split(",")[0], row["contender"]): row for row in content["rows"]
    }
    trained = {r["suite"]: r for r in content["rows"] if r["contender"] == "rljax"}
    unroll = "rljax rollout.unroll"
    for row in rows.values():
        assert row["seconds"] > 0 and row["compile_seconds"] > 0
    for name in (
        unroll,
        *(f"rljax env.step, {x}.random.key" for x in ("jax", "rljax")),
    ):
        row = rows["CartPole-v1", name]
        assert row["checks"][0]["rewards"] == row["work"] == 64 * 256
    assert rows["Pendulum-v1", unroll]["checks"][0]["episodes"] == 64 * 5
    assert rows["Acrobot-v1", unroll]["work"] == 64 * 1024
    for suite, num_envs in (("ppo_pendulum", 16), ("ppo_breakout", 64)):
        row = trained[suite]
        assert row["work"] == 2 * row["checks"][0]["steps"] == 2 * 2 * num_envs * 128
    # A second run would have to throw these figures away.
    status, words = status_and_words(benchmark_script, capsys, *arguments)
    assert status == 2 and "exists already" in words
    assert output.read_text(encoding="utf-8") == text


FAKE_WORKER = """
import sys, time
sys.path.insert(0, {folder!r})
import protocol

def task(seconds, rewards):
    print("a library says hello")

    def run(number):
        if seconds < 0:
            sys.exit("no more memory")
        if seconds > 60:
            time.sleep(seconds)
        return seconds, 256, {{"rewards": rewards, "episodes": 11}}

    return run, {{}}

protocol.serve({{"task": task}})
"""


@pytest.mark.slow
def test_the_benchmark_takes_no_figures_of_work_not_done(benchmark_script, tmp_path):
    host, rows = (sys.modules[f"contenders.{name}"] for name in ("host", "rows"))
    script = tmp_path / "worker.py"
    script.write_text(FAKE_WORKER.format(folder=str(host.HERE)), encoding="utf-8")
    fakes = {
        "quick": (1.0, 256),
        "slow": (3.0, 256),
        "lying": (0.1, 255),
        "dying": (-1.0, 256),
        "sleeping": (100.0, 256),
    }
    contenders = [
        host.Contender(name, script, {"task": "task", "seconds": t, "rewards": r})
        for name, (t, r) in fakes.items()
    ]
    results = host.race(contenders, 2, time_limit=3.0)
    targets = [rows.Target("quick", name, 2.0) for name in fakes]
    module = sys.modules["contenders.rollout_suites"]
    check = module.rollout_check(module.CARTPOLE, 256)
    found = rows.make_rows("suite", "case", "step", results, check, targets)
    assert {row.contender: row.failed for row in found} == {
        "quick": None,
        "slow": None,
        "lying": "lying earned 255 in 256 steps",
        "dying": "died: no more memory",
        "sleeping": "no answer in 3 s",
    }
    ratios = [comparison.ratio for comparison in found[0].comparisons]
    assert ratios == [1.0, pytest.approx(3.0), None, None, None]
    assert [x.reached for x in found[0].comparisons[:3]] == [False, True, None]
    assert found[1].seconds_range == (3.0, 3.0) and found[1].peak_mib > 0
    assert all(row.seconds is None for row in found[2:])


def test_the_benchmark_knows_what_a_random_policy_meets(benchmark_script):
    module = sys.modules["contenders.rollout_suites"]
    cases = {case.env: case for case in module.CASES}
    check = module.rollout_check(cases["Pendulum-v1"], 10_000)
    check("both", {"rewards": -61_000.0, "episodes": 50})
    for rewards, episodes, message in (
        (-66_000.0, 50, "both earned -66,000 in 10,000 steps"),
        (-57_000.0, 50, "both earned -57,000 in 10,000 steps"),
        (-61_000.0, 48, "both's episodes last 208.3 steps, not 200 to 205"),
        (-61_000.0, 51, "both's episodes last 196.1 steps, not 200 to 205"),
        (-61_000.0, 0, "both's episodes last 10000.0 steps"),
    ):
        with pytest.raises(ValueError, match=message):
            check("both", {"rewards": rewards, "episodes": episodes})
    # As many as 16 games of 500 steps in 8,192, and one that ended above the goal.
    check = module.rollout_check(cases["Acrobot-v1"], 8192)
    check("both", {"rewards": -8191.0, "episodes": 17})


def test_the_benchmark_knows_a_table_that_has_learned_nothing(benchmark_script):
    module = importlib.import_module("numpy_worker")
    assert module.greedy_path_lengths(np.zeros((5, 5, 4))) == [25]
    along = np.zeros((5, 5, 4))  # down the first column, then along the last row
    along[:, 0, 1], along[4, :, 3] = 1, 2
    assert module.greedy_path_lengths([along, 0 * along]).tolist() == [8, 25]
    assert module.path_check(np.zeros((2, 5, 5, 4))) == {"shortest_paths": 0.0}


def test_the_benchmark_takes_neighbours_from_wheels(benchmark_script, tmp_path):
    host = sys.modules["contenders.host"]
    home, wheels = tmp_path / "homes", tmp_path / "wheels"
    with pytest.raises(host.WorkerError, match=r"has no rejax/\*\.whl: download them"):
        host.wheels_home("rejax", home, wheels)
    (wheels / "rejax").mkdir(parents=True)
    with zipfile.ZipFile(wheels / "rejax" / "rejax-9-py3-none-any.whl", "w") as wheel:
        wheel.writestr("rejax.py", "")
        info = "rejax-9.dist-info"
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: rejax\nVersion: 9"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
        wheel.writestr(f"{info}/RECORD", "")
    found = host.wheels_home("rejax", home, wheels)
    target = home / "rejax-wheels"
    assert found == host.Home(sys.executable, {"PYTHONPATH": str(target)})
    assert (target / "rejax.py").exists()
    assert host.call(found, sys.executable, "-c", "import rejax") is None


def test_the_benchmark_reads_the_kernels_of_a_trace(benchmark_script, tmp_path):
    traces = sys.modules["contenders.traces"]

    def named(kind, name, pid, tid=0):
        return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}

    def event(name, microseconds, pid, tid=0, **args):
        event = {"ph": "X", "name": name, "pid": pid, "tid": tid, "args": args}
        return event | {"dur": microseconds}

    names = [
        named("process_name", "/device:GPU:0", 1),
        named("thread_name", "Stream #7(Compute)", 1, 7),
        named("thread_name", "XLA Ops", 1, 8),
        named("process_name", "/host:CPU", 2),
    ]
    host = [
        event("while.1", 9000, 2, hlo_op="while.1"),
        event("dot.1", 500, 2, hlo_op="dot.1"),
        event("python", 700, 2),
    ]
    device = [
        event("gemm", 1000, 1, 7),
        event("gemm", 2000, 1, 7),
        event("add", 1000, 1, 7),
        event("gemm", 4000, 1, 8, hlo_op="gemm"),
    ]
    found = traces.kernels([*names, *host, *device, {}])
    assert found == [("gemm", 2, 3.0, 0.75), ("add", 1, 1.0, 0.25)]
    assert traces.kernels([*names, *host]) == [("dot.1", 1, 0.5, 1.0)]
    assert traces.kernels([]) == traces.read(tmp_path) == []
    folder = tmp_path / "plugins" / "profile"
    folder.mkdir(parents=True)
    with gzip.open(folder / "card.trace.json.gz", "wt", encoding="utf-8") as file:
        json.dump({"traceEvents": [*names, *device]}, file)
    assert traces.read(tmp_path) == found
    assert benchmark_script.tables.kernels("PPO", found).row_count == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suites", "chess"], "--suites must be among import, rollout"),
        (["--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["--time-limit", "0"], "--time-limit must be positive, got 0"),
        (["--wheels", "nowhere"], "--wheels must be a folder with one folder per"),
        (["--profile", "."], "--profile . exists already: name a new folder"),
    ],
)
def test_the_benchmark_refuses_bad_input(benchmark_script, capsys, arguments, message):
    status, words = status_and_words(benchmark_script, capsys, *arguments)
    assert status == 2
    assert message in words


@pytest.mark.slow
def test_rlhf_compares_with_the_optimum_and_saves(tmp_path, capsys):
    script = load("rlhf")
    small = ["--vocabulary-size", 3, "--horizon", 2, "--num-prompts", 2]
    small += ["--num-seeds", 2, "--num-updates", 300, "--num-proxies", 2]
    small += ["--num-pairs", 50, "--num-proxy-pairs", 20, "--kl-coefs", 0.1, 1]
    status, words = status_and_words(script, capsys, *small, "--output", tmp_path)
    assert status == 0, words
    assert "5 algorithms × 2 prices × 2 seeds × 300 updates = 20 runs; 18 seq" in words
    assert "Learned rewards: of their exact optima at β = 1, 2 reward models" in words
    (folder,) = tmp_path.iterdir()
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "rlhf.png", "runs.csv"}
    rows = rows_of(folder / "runs.csv")
    assert len(rows) == 20
    for row in rows:
        value = {name: float(x) for name, x in row.items() if name != "algorithm"}
        objective = value["exact_reward"] - value["kl_coef"] * value["exact_kl"]
        np.testing.assert_allclose(value["exact_objective"], objective, atol=1e-4)
        gap = value["exact_optimum"] - value["exact_objective"]
        np.testing.assert_allclose(value["exact_gap"], gap, atol=1e-4)
        if row["algorithm"] in ("PPO-KL", "RLOO", "GRPO"):
            assert gap < 0.1 * abs(value["exact_optimum"]) + 0.01


def test_the_defaults_of_rlhf_are_those_of_its_table():
    script = load("rlhf")
    config = script.Config()
    betas = "".join(f" β = {beta:g} |" for beta in config.kl_coefs)
    for words in (
        f"| updates | |{betas} |---",
        f"(V = {config.vocabulary_size}, H = {config.horizon})",
        f"over {config.num_seeds} seeds with 95 % bootstrap intervals "
        f"({config.num_updates} updates, and",
        f"a {config.policy}, {config.num_pairs:,} pairs",
        f"models fitted to {config.num_proxy_pairs} preferences",
        f"over {config.num_proxies} models)",
    ):
        assert words in documented(), words
    sizes = f"× {len(config.kl_coefs)} β × {config.num_seeds} seeds"
    assert sizes in script.__doc__


def test_the_reference_of_rlhf_is_that_of_its_table():
    script = load("rlhf")
    sizes = {"vocabulary_size": 2, "horizon": 3, "num_prompts": 2}
    config = script.Config(**sizes, reference_scale=2.0)

    @jax.jit
    def make():
        problem = script.make_problem(config)
        assert problem.env.num_prompts == 2
        assert (problem.network.outputs, problem.critic.outputs) == (None, 1)
        return problem.reference, problem.log_probs

    table, log_probs = map(np.asarray, make())
    assert (table.shape, log_probs.shape) == ((2, 1 + 2 + 4, 2), (2, 8))
    assert 1 < table.std() < 4
    policy = np.exp(table) / np.exp(table).sum(-1, keepdims=True)
    for prompt in range(2):
        for i, (a, b, c) in enumerate(itertools.product(range(2), repeat=3)):
            rows = policy[prompt]
            # After nothing; after a; after a and b, which come behind the single ones.
            expected = rows[0, a] * rows[1 + a, b] * rows[3 + 2 * a + b, c]
            np.testing.assert_allclose(np.exp(log_probs[prompt, i]), expected, 1e-5)


@pytest.fixture
def asked_of_rlhf(monkeypatch):
    """What `rlhf` asks of its parts, which here do nothing."""
    script, asked = load("rlhf"), {}

    def part(name, answer=None):
        def call(*arguments, **named):
            asked[name] = arguments, named
            return answer

        return call

    numbers = np.zeros((2, 9))
    problem = script.Problem("env", "network", "critic", "reference", numbers)
    agents = {"DPO": "the dpo", "RLOO": "the rloo", "GRPO": "the grpo"}
    monkeypatch.setattr(rljax, "sweep", part("sweep", "the result"))
    for name, answer in (
        ("make_problem", problem),
        ("make_agents", agents),
        ("overoptimize", "the proxies"),
        ("write_runs", None),
        ("draw", None),
        ("summary_table", "the table"),
        ("overoptimization_text", "the text"),
    ):
        monkeypatch.setattr(script, name, part(name, answer))
    return script, problem, agents, asked


def test_rlhf_trains_each_algorithm_at_each_price(asked_of_rlhf, tmp_path, capsys):
    script, problem, agents, asked = asked_of_rlhf
    arguments = ["--kl-coefs", 0.5, 2, "--num-seeds", 4, "--num-updates", 7]
    arguments += ["--output", tmp_path]
    status, words = status_and_words(script, capsys, *arguments)
    assert status == 0
    assert (
        "3 algorithms × 2 prices × 4 seeds × 7 updates = 24 runs; 18 sequences" in words
    )
    assert "the table the text" in words
    (folder,) = tmp_path.iterdir()
    assert words.endswith(f"Saved in {folder}")
    config = script.Config(
        kl_coefs=(0.5, 2.0), num_seeds=4, num_updates=7, output=tmp_path
    )
    assert json.loads((folder / "config.json").read_text())["kl_coefs"] == [0.5, 2]
    assert asked["make_problem"] == ((config,), {})
    (*given, key_agents), _ = asked["make_agents"]
    assert given == [config, problem]
    (*given, key_train), named = asked["sweep"]
    assert given == [agents, "env"]
    (bar,) = named.pop("callbacks")
    assert isinstance(bar, script.writers.ProgressBar)
    assert named == {
        "num_seeds": 4,
        "num_updates": 7,
        "settings": {"agent": ["DPO", "RLOO", "GRPO"], "kl_coef": [0.5, 2]},
        "measure": script.optimum.measure,
    }
    (*given, key_proxy, console), _ = asked["overoptimize"]
    assert given == [config, problem, "the rloo"]
    assert isinstance(console, script.rich.console.Console)
    # Nothing is drawn twice from one key.
    keys = [key_agents, key_train, key_proxy, jax.random.key(config.seed)]
    words_of_keys = {tuple(jax.random.key_data(key).tolist()) for key in keys}
    assert len(words_of_keys) == 4
    result, proxies = "the result", "the proxies"
    assert asked["write_runs"][0] == (folder / "runs.csv", result)
    assert asked["draw"][0] == (folder / "rlhf.png", config, problem, result, proxies)
    assert asked["summary_table"][0] == (result,)
    assert asked["overoptimization_text"][0] == (config, proxies)


V, H, P = 2, 2, 2


@pytest.fixture
def small_problem():
    """`rlhf`, and a problem of two prompts and four sequences each."""
    script, rng = load("rlhf"), np.random.default_rng(0)
    table = jnp.asarray(rng.normal(size=(P, V**H)), jnp.float32)
    env = rljax.TokenMDP(script.rewards.TableReward(table, V), V, H, P)
    log_probs = np.log(rng.dirichlet(np.ones(V**H), P)).astype(np.float32)
    return script, script.Problem(env, None, None, None, jnp.asarray(log_probs))


def test_the_proxies_of_rlhf_are_of_their_own_pairs_and_earn_what_is_true(
    small_problem, monkeypatch, key
):
    script, problem = small_problem

    def sample(env, log_probs, key_pairs, *, num_pairs):
        assert num_pairs == 77
        return key_pairs

    def fit(network, key_pairs, key_fit):
        words = jax.random.key_data(jnp.stack([key_pairs, key_fit]))
        ahead, behind = jnp.sum(words % 1000, axis=1).astype(jnp.float32)
        table = (ahead - behind) / 1000 * jnp.arange(P * V**H).reshape(P, V**H)
        return script.rewards.TableReward(table, V), None

    monkeypatch.setattr(script.preferences, "sample_preferences", sample)
    monkeypatch.setattr(script.preferences, "fit_reward_model", fit)
    config = script.Config(num_proxies=3, num_proxy_pairs=77)
    proxies = np.asarray(script.fit_proxies(config, problem, key))
    assert proxies.shape == (3, P, V**H)
    # Of one key for pairs and parameters, nothing would be left but a constant.
    assert np.ptp(proxies, axis=-1).min() > 0.1
    assert np.ptp(proxies, axis=0).max() > 1e-3
    reference = np.exp(problem.log_probs)
    expected = (reference * problem.env.reward.table).sum(-1)
    earned = (reference * proxies).sum(-1)
    np.testing.assert_allclose(earned, [expected] * 3, atol=1e-5)


def test_each_run_of_rlhf_is_judged_by_the_proxy_that_it_was_trained_on(
    small_problem, monkeypatch, key
):
    script, problem = small_problem
    proxies = np.arange(6.0 * P * V**H).reshape(6, P, V**H)
    keys = []

    def fit_proxies(config, problem, key):
        keys.append(key)
        return jnp.asarray(proxies, jnp.float32)

    def sweep(agent, env, key, *, settings, num_seeds, **_):
        """States that say of which proxy and price they are."""
        assert num_seeds == 1
        keys.append(key)
        return types.SimpleNamespace(
            outcomes=[
                types.SimpleNamespace(agent_state={"of": np.array([[x, price]])})
                for x in (reward.table[0, 0] for reward in settings["env.reward"])
                for price in settings["kl_coef"]
            ]
        )

    def log_probs_of(agent, state, env):
        return jnp.zeros((P, V**H)).at[0, :2].set(state["of"])

    monkeypatch.setattr(script, "fit_proxies", fit_proxies)
    monkeypatch.setattr(rljax, "sweep", sweep)
    monkeypatch.setattr(script.optimum, "log_probs_of", log_probs_of)
    monkeypatch.setattr(script, "optima", lambda log_probs, proxy: proxy)
    monkeypatch.setattr(script, "believed_and_true", lambda _, *judged: judged)
    agent, config = types.SimpleNamespace(), script.Config()
    best, runs = script.overoptimize(config, problem, agent, key, None)
    np.testing.assert_array_equal(best, [proxies] * 2)
    learned, judges = map(np.asarray, runs)
    trained = script.NUM_TRAINED_PROXIES
    np.testing.assert_array_equal(judges, proxies[:trained])
    for i, j in itertools.product(range(trained), range(len(script.PROXY_KL_COEFS))):
        of = [proxies[i, 0, 0], script.PROXY_KL_COEFS[j]]
        np.testing.assert_allclose(learned[i, j, 0, :2], of)
    assert learned.shape == (trained, len(script.PROXY_KL_COEFS), P, V**H)
    words = {tuple(jax.random.key_data(k).tolist()) for k in (*keys, key)}
    assert len(words) == 3  # nothing is drawn twice from one key


def test_rlhf_says_what_learned_rewards_promise_and_what_is_true():
    script = load("rlhf")
    at = int(np.flatnonzero(np.isclose(script.PRICES, 1.0)).item())
    believed, true = np.full((2, 3, len(script.PRICES)), 77.0)  # asked for nowhere else
    believed[:, at], believed[:, -1] = [1.0, 2.0, 3.0], [4.0, 6.0, 8.0]
    true[:, at], true[:, -1] = [1.0, 1.5, 2.0], [0.0, 0.5, 1.0]
    optima = tuple(script.Alignment(None, reward) for reward in (believed, true))
    text = script.overoptimization_text(
        script.Config(num_proxies=3, num_proxy_pairs=50),
        script.Overoptimization(optima, None),
    )
    assert "at β = 1, 3 reward models of 50 preferences each think 2.00" in text
    assert "the truth is 1.50. As β falls to 0.001" in text
    half = stats.t.ppf(0.975, 2) * stats.sem([3, 4, 5])
    assert f"changes by +4.00 [{4 - half:+.2f}, {4 + half:+.2f}]" in text
    assert "the truth by -1.00 [-1.00, -1.00]" in text


def test_all_algorithms_of_rlhf_take_steps_that_suit_the_policy(key):
    script = load("rlhf")
    agents = {}

    def make(kind, key):
        sizes = {"vocabulary_size": 2, "horizon": 3, "num_updates": 7}
        config = script.Config(policy=kind, **sizes)
        made = script.make_agents(config, script.make_problem(config), key)
        agents[kind] = {
            name: (agent.learning_rate, agent.rollout_length, agent.anneal_updates)
            for name, agent in made.items()
        }

    for kind in ("table", "mlp", "transformer"):
        jax.eval_shape(functools.partial(make, kind), key)  # compiles nothing
    for kind, share in (("mlp", 0.3), ("transformer", 0.1)):
        assert {*agents[kind]} == {*agents["table"]}
        for name, (rate, *lengths) in agents[kind].items():
            np.testing.assert_allclose(rate, share * agents["table"][name][0])
            assert lengths == [3, 7]


@pytest.fixture
def compared():
    """What `rlhf` has measured, made up: two settings, four seeds and five updates."""
    rng = np.random.default_rng(0)
    names = ("optimum", "gap", "reward", "kl", "objective")
    outcomes = []
    for name, beta in (("RLOO", 0.2), ("DPO", 1.0)):
        found = {f"exact_{n}": rng.uniform(1, 9, (4, 5)) for n in names}
        found["exact_gap"][:2, -1] = 0.001  # two within 2 % of the optimum
        metrics = Metrics(None, None, None, {"loss": np.zeros((4, 5)), **found})
        setting = {"agent": name, "kl_coef": beta}
        faults = np.full(4, -1)
        outcomes.append(Outcome(setting, None, None, None, metrics, None, faults))
    return types.SimpleNamespace(outcomes=outcomes)


def test_the_table_of_rlhf_is_where_the_runs_ended(compared):
    table = load("rlhf").summary_table(compared)
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["algorithm"] == ["RLOO", "DPO"]
    assert columns["β"] == ["0.2", "1"]
    assert columns["≤ 2 %"] == ["2/4", "2/4"]
    assert_numbers_end_in_one_line(table)
    for i, outcome in enumerate(compared.outcomes):
        last = {name: x[:, -1] for name, x in outcome.metrics.agent.items()}
        for header, name, digits in (
            ("J(π*)", "exact_optimum", 3),
            (r"E\[r]", "exact_reward", 2),
            ("KL", "exact_kl", 2),
        ):
            middle = stats.trim_mean(last[name], 0.25)
            assert columns[header][i] == f"{middle:.{digits}f}"
        shares = 100 * last["exact_gap"] / last["exact_optimum"]
        middle, low, high = (
            float(x.strip("[],")) for x in columns["gap, %"][i].split()
        )
        assert middle == pytest.approx(stats.trim_mean(shares, 0.25), rel=0.01)
        assert shares.min() - 0.01 < low < middle < high < shares.max() * 1.01


def test_the_runs_of_rlhf_are_written_as_they_ended(compared, tmp_path):
    load("rlhf").write_runs(tmp_path / "runs.csv", compared)
    rows = rows_of(tmp_path / "runs.csv")
    assert [(r["algorithm"], r["kl_coef"], r["seed"]) for r in rows] == [
        (name, beta, str(seed))
        for name, beta in (("RLOO", "0.2"), ("DPO", "1.0"))
        for seed in range(4)
    ]
    for i, row in enumerate(rows):
        found = compared.outcomes[i // 4].metrics.agent
        assert "loss" not in row
        for name in ("exact_gap", "exact_kl", "exact_objective"):
            np.testing.assert_allclose(float(row[name]), found[name][i % 4, -1], 1e-5)


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.00123, "0.12"), (0.0999, "9.99"), (0.1, "10.0"), (0.99, "99.0"), (1.0, "100")],
)
def test_percents_have_three_digits_at_most(share, words):
    assert load("rlhf").percent(share) == words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocabulary-size", "1"], "--vocabulary-size must be at least 2, got 1"),
        (["--num-seeds", "1"], "--num-seeds must be at least 2, got 1"),
        (["--num-proxies", "1"], "--num-proxies must be at least 2, got 1"),
        (["--horizon", "9"], "are too many to be"),
        (["--kl-coefs", "0"], "--kl-coefs must be finite numbers more than 0, got (0"),
        (["--kl-coefs", "1", "1"], "--kl-coefs must differ, got (1.0, 1.0)"),
        (["--reference-scale", "-1"], "--reference-scale must be 0 or more, got -1"),
    ],
)
def test_rlhf_refuses_bad_input(arguments, message, tmp_path, capsys):
    output = tmp_path / "runs"
    status, words = status_and_words(
        load("rlhf"), capsys, *arguments, "--output", output
    )
    assert status == 2
    assert message in words
    assert not output.exists()


@pytest.fixture(scope="module")
def mutation_script():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return load("mutation_check")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def global_names(code):
    """The names that a program takes from its module, or from Python."""
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return names.union(*map(global_names, inner))


def test_every_mistake_of_the_mutation_check_can_be_planted(mutation_script):
    mutations = mutation_script.MUTATIONS
    assert len({mutation.name for mutation in mutations}) == len(mutations) >= 30
    assert f"plants {len(mutations)} known mistakes" in (ROOT / "README.md").read_text()
    for mutation in mutations:
        path = ROOT / "rljax" / mutation.file
        text = path.read_text(encoding="utf-8")
        assert text.count(mutation.right) == 1, mutation.name
        planted = text.replace(mutation.right, mutation.wrong)
        assert planted != text
        # A name that nobody defined would be noticed whatever the tests look at.
        new = global_names(compile(planted, str(path), "exec"))
        new -= global_names(compile(text, str(path), "exec"))
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts)
        )
        for name in new:
            assert hasattr(module, name) or hasattr(builtins, name), mutation.name
        assert (ROOT / "tests" / mutation.tests).exists(), mutation.name


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--match", "no such mistake"], "no mistake contains 'no such mistake'"),
        (["--sample", 0], "--sample must be at least 1, got 0"),
        (["--jobs", 0], "--jobs must be at least 1, got 0"),
        (["--generate", 0], "--generate must be at least 1, got 0"),
        (["--minutes", 0], "--minutes must be more than 0, got 0"),
        (["--resume", "none.jsonl"], "--resume must be a file, got none.jsonl"),
        (["--generate", 1, "--modules", "a.py"], "must be files such as"),
        (
            ["--generate", 1, "--near", "--modules", "rljax/__init__.py"],
            "no test file is named after ['rljax/__init__.py']",
        ),
    ],
)
def test_bad_flags_of_the_mutation_check(mutation_script, capsys, flags, message):
    status, words = status_and_words(mutation_script, capsys, *flags)
    assert status == 2
    assert message in words


@pytest.mark.slow
def test_a_change_that_is_no_mistake_is_not_caught(mutation_script, tmp_path):
    equivalent = mutation_script.Mutation(
        "no mistake",
        "losses.py",
        "return 0.5 * jnp.mean(jnp.square(targets - values))",
        "return 0.5 * jnp.mean(jnp.square(values - targets))",
        "test_losses.py",
    )
    checker = mutation_script.Checker(tmp_path)
    copy = checker.plant(equivalent)
    assert checker.first_failure(copy, equivalent.tests) is None
    # Nor by the test that holds the list of mistakes against the library.
    assert checker.first_failure(copy, "test_scripts.py") is None
    crash = equivalent._replace(wrong="return no_such_name")
    assert "NameError" in checker.check(crash).broken


@pytest.mark.slow
def test_a_mistake_is_caught_by_name(mutation_script, capsys):
    status, words = status_and_words(mutation_script, capsys, "--match", "its ½")
    assert status == 0, words
    assert "test_value_loss" in words
    assert "1 of 1 caught." in words


@pytest.mark.slow
def test_kernels_script_compares_both_ways(tmp_path, capsys):
    output = tmp_path / "found.json"
    sizes = ["--num-updates", 1, "--judged-updates", 1, "--repeats", 1]
    script = load("kernels")
    assert run(script, "--num-seeds", 2, *sizes, "--output", output) == 0
    assert "of 2 seeds solved" in capsys.readouterr().out
    found = json.loads(output.read_text(encoding="utf-8"))
    with_kernels, without = found["pace"]
    assert with_kernels["repeats_bitwise"]
    if jax.default_backend() == "cpu":  # where both are the same programs
        assert with_kernels["return"] == without["return"]
    assert len(found["judged"][0]["returns"]) == 2
    status, words = status_and_words(script, capsys, "--output", output)
    assert status == 2
    assert "exists already" in words


@pytest.mark.parametrize(
    ("system", "quoted"), [("posix", "'my runs'"), ("nt", '"my runs"')]
)
def test_how_to_go_on_is_said_in_the_words_of_the_shell(system, quoted, monkeypatch):
    monkeypatch.setattr(cli, "os", types.SimpleNamespace(name=system))
    printed = []
    console = types.SimpleNamespace(print=lambda words, **_: printed.append(words))
    result = types.SimpleNamespace(num_updates=3)
    cli.say_interrupted(console, Path("my runs"), result, 9)
    assert "Interrupted after 3 of 9 updates" in printed[0]
    assert printed[0].endswith(f"--resume {quoted}")
