"""What a sweep reports of its pace, and how a resumed one is laid out."""

import csv
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.experiment import programs, runner
from rljax.experiment.checkpoint import CheckpointError, Checkpoints
from rljax.experiment.writers import CSVWriter
from tests.agents import test_agents_to_come

MAZE = rljax.make("GridWorld-5x5")
AGENT = rljax.QLearning(
    exploration=rljax.exploration.EpsilonGreedy(0.1), rollout_length=10
)


def read_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sweep(num_updates, settings, **arguments):
    arguments |= {"num_seeds": 3, "num_updates": num_updates, "settings": settings}
    return rljax.sweep(AGENT, MAZE, jax.random.key(0), **arguments)


def test_steps_per_second_are_those_of_all_settings_and_seeds(monkeypatch):
    ticks = itertools.count(step=2)  # each chunk takes 2 seconds by this clock
    clock = types.SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(runner, "time", clock)
    reports = []
    with pytest.warns(
        UserWarning, match=r"'rollout_length=10' does 50, .*4' 20\. Pass"
    ):
        sweep(5, {"rollout_length": [10, 4]}, callbacks=[reports.append])
    assert sum(r.num_updates - r.first_update for r in reports) == 5
    for report in reports:
        updates = report.num_updates - report.first_update
        assert report.steps_per_second == (10 + 4) * 3 * updates / 2


@pytest.fixture
def two_processes(monkeypatch):
    """This one is the second of two; what the first decides is what is set here."""
    told = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        runner.multihost_utils,
        "broadcast_one_to_all",
        lambda mine: np.array(told.pop(), mine.dtype),
    )
    return told


@pytest.mark.parametrize("decided", [(7, True, False), (1, False, True)])
def test_processes_do_what_the_first_has_decided(decided, two_processes):
    two_processes.append((*decided, False))
    found = runner._agree(3, not decided[1], not decided[2], None)
    assert found == decided
    assert [type(x) for x in found] == [int, bool, bool]


def test_a_failure_of_the_first_process_ends_the_others(two_processes):
    two_processes.append((3, False, False, True))
    with pytest.raises(RuntimeError, match="a callback of the first process has fail"):
        runner._agree(3, False, False, None)
    two_processes.append((3, False, False, True))
    with pytest.raises(OSError, match="mine"):
        runner._agree(3, False, False, OSError("mine"))


def test_a_process_alone_asks_nobody(monkeypatch):
    def ask(*_):
        raise AssertionError

    monkeypatch.setattr(runner.multihost_utils, "broadcast_one_to_all", ask)
    assert runner._agree(3, True, False, None) == (3, True, False)
    with pytest.raises(OSError, match="mine"):
        runner._agree(3, True, False, OSError("mine"))


@pytest.mark.parametrize(
    ("count", "steps"), [(1, None), (2, [5, 5]), (2, [5, 4]), (3, [5, 5, 6])]
)
def test_all_processes_go_on_from_one_checkpoint(count, steps, monkeypatch):
    def all_gather(mine):
        assert mine == 5
        return np.array(steps)

    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(runner.multihost_utils, "process_allgather", all_gather)
    found = types.SimpleNamespace(step=5, skipped=["4 is bad"], tree=(["s"], [[1]]))
    checkpoints = types.SimpleNamespace(folder="saved", restore=lambda like: found)
    states, history = [], [np.zeros((1, 9))]
    population = types.SimpleNamespace(from_host=states.append)
    mine = types.SimpleNamespace(populations=[population], history=history, done=0)
    found.tree[1][0] = np.arange(1.0, 6.0)[None]
    if steps is not None and len({*steps}) > 1:
        with pytest.raises(CheckpointError) as error:
            runner.Runner.restore(mine, checkpoints)
        assert f"different checkpoints in saved, of updates {steps}" in str(error.value)
        assert (states, mine.done) == ([], 0)
        return
    with pytest.warns(UserWarning, match="passed over a checkpoint: 4 is bad"):
        runner.Runner.restore(mine, checkpoints)
    assert (states, mine.done) == (["s"], 5)
    np.testing.assert_array_equal(history[0], [[1, 2, 3, 4, 5, 0, 0, 0, 0]])


def test_a_resumed_sweep_keeps_each_batch_size(tmp_path):
    """Even one that it would not choose by itself; a size that is asked for wins."""
    kept, chosen = Checkpoints(tmp_path / "kept"), Checkpoints(tmp_path / "chosen")
    settings = {"step_size": [0.1, 0.2]}
    sweep(1, settings, checkpoints=chosen)
    sweep(1, settings, checkpoints=kept, batch_size=2)
    (default,) = chosen.describe(1)["batch_sizes"]
    assert default != 2
    sweep(2, settings, checkpoints=kept, resume=True)
    assert kept.describe(2)["batch_sizes"] == [2]
    sweep(3, settings, checkpoints=kept, resume=True, batch_size=default)
    assert kept.describe(3)["batch_sizes"] == [default]


def test_settings_of_different_updates_do_as_many_steps(tmp_path):
    lengths = (10, 4, 25)
    settings = {"rollout_length": list(lengths)}
    reports = []
    writer = CSVWriter(tmp_path / "csv")
    result = sweep(None, settings, num_steps=98, callbacks=[reports.append, writer])
    # The shortest does 25 updates, 100 steps; the others what comes nearest to that.
    assert result.num_updates == 25
    updates = [outcome.metrics.num_episodes.shape[1] for outcome in result.outcomes]
    assert updates == [10, 25, 4]
    assert [o.steps_per_update for o in result.outcomes] == [10, 4, 25]
    # Each is what it would be alone.
    for outcome, length, count in zip(result.outcomes, lengths, updates, strict=True):
        alone = sweep(count, {"rollout_length": [length]})
        for mine, theirs in zip(
            jax.tree.leaves(outcome.metrics),
            jax.tree.leaves(alone[0].metrics),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, theirs)
    rows = read_rows(tmp_path / "csv")
    assert len(rows) == 3 * sum(updates)
    for length, count in zip(lengths, updates, strict=True):
        own = [row for row in rows if row["rollout_length"] == str(length)]
        numbers = [int(row["update"]) for row in own if row["seed"] == "0"]
        assert numbers == [*range(1, count + 1)]
        assert all(int(r["steps"]) == length * int(r["update"]) for r in own)
    # In the file settings go side by side: never further apart than one update of each.
    steps = dict.fromkeys(map(str, lengths), 0)
    for row in rows:
        steps[row["rollout_length"]] = int(row["steps"])
        assert max(steps.values()) - min(steps.values()) <= 25
    data = result.to_xarray()
    np.testing.assert_array_equal(
        data.steps.sel(rollout_length=25)[:4], [25, 50, 75, 100]
    )
    assert np.isnan(data.abs_td_error.sel(rollout_length=25)[:, 4:]).all()
    assert not np.isnan(data.abs_td_error.sel(rollout_length=25)[:, :4]).any()


def test_equal_steps_go_on_as_if_they_had_not_been_stopped(tmp_path):
    settings = {"rollout_length": [10, 4, 25]}
    whole = CSVWriter(tmp_path / "whole")
    uninterrupted = sweep(None, settings, num_steps=200, callbacks=[whole])
    checkpoints = Checkpoints(tmp_path / "saved")
    for num_steps in (40, 104, 200):
        resumed = sweep(
            None,
            settings,
            num_steps=num_steps,
            checkpoints=checkpoints,
            resume=True,
            callbacks=[CSVWriter(tmp_path / "resumed")],
        )
    assert (tmp_path / "resumed").read_text() == (tmp_path / "whole").read_text()
    for mine, theirs in zip(resumed.outcomes, uninterrupted.outcomes, strict=True):
        np.testing.assert_array_equal(
            mine.train_state.agent_state.q_values,
            theirs.train_state.agent_state.q_values,
        )
    with (
        pytest.raises(CheckpointError, match="equal_steps"),
        pytest.warns(UserWarning, match="differ in environment steps"),
    ):
        sweep(60, settings, checkpoints=checkpoints, resume=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "one of num_updates and num_steps must be given"),
        ({"num_updates": 1, "num_steps": 1}, TypeError, "one of num_updates and num_s"),
        ({"num_steps": -1}, ValueError, "num_steps must be at least 0, got -1"),
        ({"num_steps": 1.5}, TypeError, "num_steps must be an integer, got 1.5"),
        ({"num_steps": 3}, ValueError, "at least those of one update, 25 of setting"),
    ],
)
def test_the_length_of_training_is_said_in_one_way(arguments, error, message):
    settings = {"rollout_length": [4, 25]}
    arguments = {"num_updates": None} | arguments
    with pytest.raises(error, match=message):
        sweep(settings=settings, **arguments)
    if "setting" not in message:
        with pytest.raises(error, match=message):
            rljax.train(AGENT, MAZE, jax.random.key(0), **arguments)


def assert_as_train(found, trained):
    for mine, theirs in zip(*map(jax.tree.leaves, (found, trained)), strict=True):
        if jnp.issubdtype(mine.dtype, jax.dtypes.prng_key):
            mine, theirs = jax.random.key_data(mine), jax.random.key_data(theirs)
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_a_run_in_chunks_is_that_of_train(make_key, tmp_path):
    key = make_key(3)
    whole = rljax.train(AGENT, MAZE, key, num_updates=7)
    reports = []
    found = rljax.run(AGENT, MAZE, key, num_updates=7, callbacks=[reports.append])
    assert jax.tree.structure(found) == jax.tree.structure(whole)
    assert_as_train(found, whole)
    assert reports[-1].num_updates == 7
    assert len(reports) > 1
    # By steps, stopped on the way, and gone on with.
    checkpoints = Checkpoints(tmp_path)
    rljax.run(AGENT, MAZE, key, num_steps=30, checkpoints=checkpoints)
    assert checkpoints.steps() == [3]
    found = rljax.run(
        AGENT, MAZE, key, num_steps=70, checkpoints=checkpoints, resume=True
    )
    assert_as_train(found, whole)


@pytest.mark.slow
def test_a_run_keeps_its_buffer_and_is_no_sweep_of_one_seed(tmp_path, key):
    agent = test_agents_to_come.DQN(num_envs=2, rollout_length=4)
    env = rljax.make("CartPole-v1")
    checkpoints = Checkpoints(tmp_path)
    found = rljax.run(agent, env, key, num_updates=2, checkpoints=checkpoints)
    whole = rljax.train(agent, env, key, num_updates=2)
    assert jax.tree.structure(found) == jax.tree.structure(whole)
    with pytest.raises(CheckpointError, match="run"):
        rljax.sweep(
            agent,
            env,
            key,
            num_seeds=1,
            num_updates=3,
            checkpoints=checkpoints,
            resume=True,
        )


def test_what_was_stopped_early_can_be_looked_at(tmp_path):
    checkpoints, key = Checkpoints(tmp_path), jax.random.key(0)
    arguments = {"keep_best": rljax.KeepBest(every=5), "checkpoints": checkpoints}
    counts = iter([False, True])
    rljax.run(AGENT, MAZE, key, num_updates=9, stop=lambda: next(counts), **arguments)
    (step,) = checkpoints.steps()
    assert step < 5
    _, metrics = rljax.run(AGENT, MAZE, key, num_updates=step, resume=True, **arguments)
    assert len(metrics.num_episodes) == step


def test_a_run_of_another_length_compiles_nothing():
    programs.compile_training.cache_clear()
    for num_updates in (2, 3, 30):
        rljax.run(AGENT, MAZE, jax.random.key(0), num_updates=num_updates)
    assert programs.compile_training.cache_info().misses == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"agent": {"a": AGENT, "b": AGENT}},
            TypeError,
            r"agent must be one, got \['a",
        ),
        ({"env": {"a": MAZE}}, TypeError, "env must be one, got .*Sweep over several"),
        ({"num_updates": None}, TypeError, "one of num_updates and num_steps"),
        ({"key": 3}, TypeError, "key must be a random key"),
        ({"resume": True}, ValueError, "resume needs the checkpoints"),
        ({"callbacks": [1]}, TypeError, "callbacks must be a list of functions"),
    ],
)
def test_a_run_refuses_what_does_not_fit(arguments, error, message):
    given = {"agent": AGENT, "env": MAZE, "key": jax.random.key(0), "num_updates": 1}
    given |= arguments
    with pytest.raises(error, match=message):
        rljax.run(given.pop("agent"), given.pop("env"), given.pop("key"), **given)
    run = jax.jit(lambda key: rljax.run(AGENT, MAZE, key, num_updates=1))
    with pytest.raises(TypeError, match="run is a loop on the host and can't be jit"):
        run(jax.random.key(0))


def test_steps_are_rounded_up_to_whole_updates(key):
    assert AGENT.steps_per_update == 10
    for num_steps, updates in ((0, 0), (1, 1), (20, 2), (21, 3)):
        _, metrics = rljax.train(AGENT, MAZE, key, num_steps=num_steps)
        assert metrics.num_episodes.shape == (updates,)
