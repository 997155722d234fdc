"""Sweeps: equal to lone runs, compiled once, faults contained, stopped and resumed."""

import contextlib
import csv
import dataclasses
import functools
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import types
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rljax
from rljax import parallel, struct
from rljax.experiment import (
    faults,
    population,
    programs,
    reports,
    runner,
    signals,
    writers,
)
from rljax.experiment.checkpoint import CheckpointError, Checkpoints
from rljax.experiment.fingerprint import check_same, describe
from rljax.experiment.settings import expand
from rljax.experiment.sweep import _default_budget as default_budget
from rljax.experiment.sweep import multihost_utils
from rljax.rlhf.rewards import TableReward
from tests import probes
from tests.conftest import enable_x64

ENV = rljax.make("CartPole-v1", max_steps=20)
AGENT = rljax.ActorCritic(num_envs=2, rollout_length=8, hidden_sizes=(8,))
MAZE = rljax.make("GridWorld-5x5")
Q_LEARNING = rljax.QLearning(
    exploration=rljax.exploration.EpsilonGreedy(0.1), rollout_length=10
)
GRID = {"learning_rate": [1e-3, 1e-2], "env.gravity": [9.8, 20.0]}
KEY = jax.random.key(0)


def sweep(agent=AGENT, env=ENV, key=KEY, **arguments):
    arguments = {"num_seeds": 3, "num_updates": 4, "settings": GRID} | arguments
    return rljax.sweep(agent, env, key, **arguments)


def bits(tree):
    """Leaves as arrays, keys as their words."""

    def words(x):
        is_key = jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return [words(x) for x in jax.tree.leaves(tree) if not isinstance(x, str)]


def assert_bitwise_equal(first, second):
    for a, b in zip(bits(first), bits(second), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


def assert_close(first, second):
    """1e-5, as vmapped sums may round in another order; integers and keys exactly."""
    for a, b in zip(bits(first), bits(second), strict=True):
        tolerance = 1e-5 if a.dtype.kind == "f" else 0
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def result():
    return sweep(num_episodes=2)


def test_every_run_is_the_lone_run_with_its_setting_and_key(result):
    # Two of the four settings.
    keys = jax.random.split(jax.random.split(KEY)[0], 3)
    for i in (1, 2):
        outcome = result[i]
        expected = jax.vmap(
            lambda key, o=outcome: rljax.train(o.agent, o.env, key, num_updates=4)
        )(keys)
        assert_close((outcome.train_state, outcome.metrics), expected)


def test_the_evaluation_is_that_of_the_final_policies(result):
    outcome = result["learning_rate=0.01, env.gravity=20.0"]
    keys = jax.random.split(jax.random.split(KEY)[1], 3)
    expected = jax.vmap(
        lambda state, key: rljax.evaluate(
            outcome.agent, state, outcome.env, key, num_episodes=2
        )
    )(outcome.agent_state, keys)
    np.testing.assert_array_equal(
        outcome.evaluation.episode_returns, expected.episode_returns
    )
    np.testing.assert_array_equal(
        outcome.scores, outcome.evaluation.episode_returns.mean(1)
    )


def test_evaluation_episodes_that_were_cut_are_counted(result):
    # No pole falls in 3 steps, and the time limit is 20.
    with pytest.warns(
        UserWarning,
        match=r"max_steps=3 steps: 6 of 6 of setting 'learning_rate=0.001, env.gravit"
        r".*\(and 1 more settings\).* larger max_steps=",
    ):
        cut = sweep(num_updates=0, num_episodes=2, max_steps=3)
    for outcome in cut.outcomes:
        np.testing.assert_array_equal(outcome.num_cut, [2, 2, 2])
    assert [row["num_cut"] for row in cut.summary()] == [6] * 4
    np.testing.assert_array_equal(cut.to_xarray().num_cut, np.full((2, 2, 3), 2))
    assert [row["num_cut"] for row in result.summary()] == [0] * 4
    without = result[0]._replace(evaluation=None)
    np.testing.assert_array_equal(without.num_cut, [0, 0, 0])


def test_a_sweep_is_not_resumed_under_other_settings_of_jax(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    arguments = {"settings": None, "checkpoints": checkpoints, "resume": True}
    sweep(num_updates=1, **arguments)
    before = jax.config.jax_threefry_partitionable
    jax.config.update("jax_threefry_partitionable", not before)
    try:
        with pytest.raises(CheckpointError, match="jax_threefry_partitionable is"):
            sweep(num_updates=2, **arguments)
    finally:
        jax.config.update("jax_threefry_partitionable", before)
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    with pytest.warns(UserWarning, match="was saved with jax .*, this is 0.0.1"):
        sweep(num_updates=2, **arguments)


@pytest.mark.slow
def test_keys_whose_words_depend_on_the_batch_are_warned_of():
    with pytest.warns(UserWarning, match="key of kind 'rbg', whose words under vmap"):
        sweep(
            key=jax.random.key(0, impl="rbg"),
            num_updates=1,
            num_seeds=1,
            settings=None,
        )


def test_a_setting_is_found_by_its_values(result):
    first = {"learning_rate": 1e-3, "env.gravity": 9.8}
    assert result[first] is result[0]
    # Numbers to 6 digits, as of np.geomspace.
    assert result[{"learning_rate": 1e-2 * (1 + 1e-8), "env.gravity": 20}] is result[3]
    # There is no ratio to 0 or to a negative number: it is as far as can be.
    far = ({"learning_rate": x, "env.gravity": 19} for x in (0, 0.0, -0.01, True))
    for values, message in (
        *((values, "nearest of 4 is '.*, env.gravity=20.0'") for values in far),
        ({"learning_rate": 1e-3}, "2 settings have 'learning_rate=0.001', such as"),
        (
            {"learning_rate": 8e-3, "env.gravity": 19},
            "no setting has .*; the nearest of 4 is "
            "'learning_rate=0.01, env.gravity=20.0'",
        ),
        ({"lr": 1}, "no setting has 'lr'; they have env.gravity, learning_rate"),
    ):
        with pytest.raises(KeyError, match=message):
            result[values]


def test_a_result_shows_itself_in_one_line_and_in_a_notebook_as_a_table(result):
    words = repr(result)
    best = result.best()
    middle = f"{result.summary()[result.outcomes.index(best)]['iqm']:.4g}"
    assert words == (
        "SweepResult(4 settings × 3 seeds × 4 updates, best: "
        f"{best.label} with {middle})"
    )
    html = result._repr_html_()
    assert html.count("<tr>") == 1 + 4
    for text in ("env.gravity", "20.0", middle):
        assert f">{text}<" in html
    assert repr(result[1]).startswith(
        "Outcome(learning_rate=0.001, env.gravity=20.0: 3 seeds × 4 updates, scores ["
    )
    assert len(repr(result[1])) < 200


def test_axes_are_named(result):
    data = result.to_xarray()
    assert data.score.dims == ("learning_rate", "env.gravity", "seed")
    assert data.policy_loss.shape == (2, 2, 3, 4)
    at = {"learning_rate": 1e-2, "env.gravity": 9.8}
    chosen = result["learning_rate=0.01, env.gravity=9.8"]
    np.testing.assert_array_equal(
        data.policy_loss.sel(at), chosen.metrics.agent["policy_loss"]
    )
    np.testing.assert_array_equal(
        data.evaluation_return.sel(at), chosen.evaluation.episode_returns
    )
    with pytest.raises(KeyError, match="no setting 'x'; of 4, the nearest are 'learn"):
        result["x"]
    assert len(list(result)) == 4
    with pytest.raises(IndexError, match="label or an index below 4, got 4"):
        result[4]
    with pytest.raises(TypeError, match="label or an index below 4, got None"):
        result[None]
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\).*, got 95"):
        result.summary(95)


def test_other_values_compile_nothing(result):
    def count(event, duration, **_):
        if listening and event == "/jax/core/compile/backend_compile_duration":
            compilations.append(event)

    listening, compilations = [True], []
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        other = {"learning_rate": [2e-3, 3e-3], "env.gravity": [1.0, 2.0]}
        sweep(dataclasses.replace(AGENT, discount=0.9), settings=other, num_episodes=2)
        assert not compilations
        sweep(settings={"rollout_length": [4]}, num_updates=1)
        assert compilations  # so that the listener is known to hear
    finally:
        listening.clear()


@pytest.mark.slow
def test_static_alternatives_are_compiled_once_each():
    programs.compile_training.cache_clear()
    result = sweep(
        {"ac": AGENT, "q": dataclasses.replace(Q_LEARNING, rollout_length=16)},
        MAZE,
        num_updates=2,  # of 16 steps each
        settings=[
            {"agent": "ac", "hidden_sizes": (4,)},
            {"agent": "q", "step_size": 0.1},
            {"agent": "ac", "hidden_sizes": (6,)},
            {"agent": "q", "step_size": 0.2},
            {"agent": "ac", "hidden_sizes": (4,), "learning_rate": 0.1},
        ],
    )
    assert programs.compile_training.cache_info().misses == 3
    kernels = [result[i].agent_state.params.actor[0].kernel.shape for i in (0, 2, 4)]
    assert kernels == [(3, 4, 4), (3, 6, 4), (3, 4, 4)]
    assert [result[i].agent.step_size for i in (1, 3)] == [0.1, 0.2]
    # Metrics that an agent does not report are missing, not 0.
    loss = result.to_xarray().policy_loss
    assert np.isfinite(loss[0]).all() and np.isnan(loss[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batches_and_padding_change_nothing_but_rounding(result, batch_size):
    other = sweep(batch_size=batch_size)
    assert_close(result[3].train_state, other[3].train_state)


@pytest.mark.slow
def test_one_device_equals_two(result):
    other = sweep(devices=jax.devices()[:1])
    assert_close(result[3].train_state, other[3].train_state)


@pytest.mark.slow
def test_a_sweep_is_compiled_even_where_jit_is_disabled(result):
    with jax.disable_jit():
        again = sweep(num_episodes=2)
    assert_bitwise_equal(again.outcomes, result.outcomes)


class Recorder:
    def __init__(self):
        self.reports = []

    def __call__(self, report):
        self.reports.append(report)


def test_how_the_updates_are_divided_does_not_change_a_bit(result, monkeypatch):
    monkeypatch.setattr(runner, "CHUNK_SECONDS", 0.0)  # one update at a time
    record = Recorder()
    assert_bitwise_equal(
        sweep(callbacks=[record], num_episodes=2).outcomes, result.outcomes
    )
    assert [r.first_update for r in record.reports] == [0, 1, 2, 3]
    joined = [r.metrics[2].episode_return_sum for r in record.reports]
    np.testing.assert_array_equal(
        np.concatenate(joined, axis=1), result[2].metrics.episode_return_sum
    )


def test_reports_have_a_row_per_update_setting_and_seed(result):
    record = Recorder()
    sweep(callbacks=[record])
    rows = [row for report in record.reports for row in report.rows()]
    assert len(rows) == 4 * 4 * 3
    order = [(row["update"], row["learning_rate"], row["env.gravity"]) for row in rows]
    assert order == sorted(order, key=lambda x: (x[0], float(x[1]), float(x[2])))
    assert [row["seed"] for row in rows[:6]] == [0, 1, 2, 0, 1, 2]
    metrics = result[1].metrics
    row = next(
        r for r in rows if (r["update"], r["seed"], r["env.gravity"]) == (3, 2, "20.0")
    )
    assert row["steps"] == 3 * 2 * 8
    assert row["num_episodes"] == metrics.num_episodes[2, 2]
    assert row["policy_loss"] == float(metrics.agent["policy_loss"][2, 2])
    if row["num_episodes"]:
        assert row["episode_return"] == pytest.approx(metrics.episode_return[2, 2])


@pytest.mark.slow
def test_x64_and_legacy_keys():
    with enable_x64():
        outcome = sweep(Q_LEARNING, MAZE, settings={"step_size": [0.1, 0.2]})[1]
        assert outcome.agent_state.q_values.dtype == np.float64
    key = jax.random.PRNGKey(0)
    new = sweep(Q_LEARNING, MAZE, settings=None)
    old = sweep(Q_LEARNING, MAZE, key, settings=None)
    assert_bitwise_equal(new[0].agent_state, old[0].agent_state)


@struct.dataclass
class Draws(rljax.Agent):
    """All that it does is to draw words."""

    num_envs: int = struct.static(default=1)
    rollout_length: int = struct.static(default=1)

    def init(self, key, env):
        return jax.random.uniform(key)

    def act(self, state, obs, key):
        return jnp.int32(0), jax.random.uniform(key)

    def greedy(self, state, obs):
        return jnp.int32(0)

    def update(self, state, trajectory, key):
        return state, {
            "of act": trajectory.extras[0, 0],
            "own": jax.random.uniform(key),
        }


@pytest.mark.slow
def test_legacy_keys_give_the_words_of_typed_ones():
    run = functools.partial(sweep, Draws(), probes.OneStep(), settings=None)
    new, old = run(KEY), run(jax.random.PRNGKey(0))
    assert_bitwise_equal(new[0].agent_state, old[0].agent_state)
    assert_bitwise_equal(new[0].metrics.agent, old[0].metrics.agent)
    assert len(np.unique(new[0].metrics.agent["own"])) == 3 * 4


# Faults.


def test_a_run_that_breaks_leaves_its_neighbours_bitwise_untouched(result):
    settings = {"learning_rate": [1e-3, 1e30], "env.gravity": [9.8, 20.0]}
    with pytest.warns(RuntimeWarning, match=r"seed 0: \.params\S+ became NaN or infin"):
        broken = sweep(settings=settings, num_episodes=2)
    for i in (0, 1):
        assert_bitwise_equal(broken[i][3:], result[i][3:])
    for i in (2, 3):
        outcome = broken[i]
        assert (outcome.fault_updates > 0).all()
        assert all(np.isfinite(x).all() for x in bits(outcome.agent_state.params))
        for seed, update in enumerate(outcome.fault_updates):
            loss = outcome.metrics.agent["policy_loss"][seed]
            assert np.isfinite(loss[: update - 1]).all()
            assert np.isnan(loss[update - 1 :]).all()
            assert (outcome.metrics.num_episodes[seed, update - 1 :] == 0).all()
        assert (outcome.scores == -np.inf).all()
    assert {(f.setting, f.seed) for f in broken.faults} == {
        (broken[i].label, seed) for i in (2, 3) for seed in range(3)
    }
    assert broken.best().label in {broken[0].label, broken[1].label}
    rows = broken.summary()
    assert [row["num_broken"] for row in rows] == [0, 0, 3, 3]
    assert rows[2]["iqm_high"] == -np.inf


@struct.dataclass
class BreaksWhenPoisoned:
    """CartPole whose rewards are log(1 − poison) · 0 higher: NaN where poison > 1."""

    env: rljax.CartPole
    poison: float = 0.0

    @property
    def observation_space(self):
        return self.env.observation_space

    @property
    def action_space(self):
        return self.env.action_space

    def reset(self, key):
        return self.env.reset(key)

    def step(self, state, action, key):
        state, time_step = self.env.step(state, action, key)
        reward = jnp.log(1 - self.poison) * 0 + time_step.reward
        return state, time_step._replace(reward=reward)


@pytest.mark.slow
def test_debug_says_where_the_first_nan_arose():
    env = BreaksWhenPoisoned(rljax.CartPole())
    settings = {"env.poison": [0.0, 2.0]}
    with pytest.raises(FloatingPointError) as error:
        sweep(env=env, settings=settings, debug=True)
    message = str(error.value)
    assert "setting 'env.poison=2.0', seed 0" in message
    assert "nan generated by primitive: log" in message
    assert "test_sweep.py" in message and "(BreaksWhenPoisoned.step)" in message


@pytest.mark.slow
@pytest.mark.parametrize("agent", [AGENT, Q_LEARNING], ids=lambda a: type(a).__name__)
def test_a_healthy_run_has_no_nan_to_be_found(agent):
    env = ENV if agent is AGENT else MAZE
    state = rljax.init_train(agent, env, KEY)
    assert faults.locate_nan(agent, env, state, max_updates=2) is None


@struct.dataclass
class LogsEachUpdate(rljax.Agent):
    """Its state is the number of updates until it takes the logarithm of −1."""

    num_envs: int = struct.static(default=1)
    rollout_length: int = struct.static(default=1)

    def init(self, key, env):
        return jnp.asarray(2.0)

    def act(self, state, obs, key):
        return jnp.int32(0), ()

    def greedy(self, state, obs):
        return jnp.int32(0)

    def update(self, state, trajectory, key):
        state = state - 1
        return state, {"log": jnp.log(jnp.where(state < 0, -1.0, 1.0))}


def test_the_first_nan_is_found_in_the_update_that_makes_it():
    agent, env = LogsEachUpdate(), probes.OneStep()
    state = rljax.init_train(agent, env, KEY)
    where = faults.locate_nan(agent, env, state, max_updates=3)
    assert "nan generated by primitive: log" in where
    assert "test_sweep.py" in where and "(LogsEachUpdate.update)" in where
    assert faults.locate_nan(agent, env, state, max_updates=2) is None


# Memory.


@pytest.mark.slow
def test_runs_are_taken_in_batches_that_fit_the_budget():
    arguments = {
        "devices": jax.devices()[:1],
        "batch_size": None,
    }
    agent = rljax.ActorCritic(num_envs=16, rollout_length=64, hidden_sizes=(8,))
    pairs, keys = [(agent, ENV)], jax.random.split(KEY, 32)
    together = population.Population(
        pairs, keys, **{**arguments, "batch_size": 32}, memory_budget=2**30
    )
    assert (together.layout.batch_size, together.layout.num_batches) == (32, 1)
    needed, temporary = programs.memory(together._advance, together.layout)
    budget = needed - temporary // 2
    fits = population.Population(
        pairs, keys, **{**arguments, "batch_size": 32}, memory_budget=budget
    )
    assert 1 <= fits.layout.batch_size < 32
    assert programs.memory(fits._advance, fits.layout)[0] <= budget
    with pytest.raises(MemoryError, match="even one at a time. Sweep over fewer seeds"):
        population.Population(pairs, keys, **arguments, memory_budget=1000)


@pytest.fixture
def stand_in(monkeypatch):
    """Nothing is compiled: programs take 100 bytes a run, beside 1000 bytes of states.

    Returns the batch sizes for which memory was asked.
    """
    asked = []

    def memory(advance, layout):
        asked.append(layout.batch_size)
        assert len(asked) < 40, asked  # it would go on for ever
        return 1000 + 100 * layout.batch_size, 100 * layout.batch_size

    monkeypatch.setattr(programs, "compile_training", lambda *_: (None, None))
    monkeypatch.setattr(programs, "memory", memory)
    return asked


@pytest.mark.usefixtures("stand_in")
def test_each_run_has_the_whole_array_of_its_setting():
    tables = np.arange(8.0).reshape(2, 1, 4)
    envs = [rljax.TokenMDP(TableReward(jnp.array(t), 2), 2, 2) for t in tables]
    runs = population.Population(
        [(Q_LEARNING, env) for env in envs],
        jax.random.split(KEY, 3),
        devices=jax.devices()[:1],
        batch_size=6,
        memory_budget=2**30,
    )
    (table,) = runs._varied
    assert table.shape == (6, 1, 4)
    for i in range(6):
        np.testing.assert_array_equal(table[i], tables[i // 3])


# Of 32 runs, 9 at a time take as many batches as 8 do.
@pytest.mark.parametrize(("room", "batch_size"), [(3200, 32), (950, 8), (100, 1)])
def test_a_batch_is_as_large_as_a_budget_has_room_for(room, batch_size, stand_in):
    def lay_out(budget):
        stand_in.clear()
        keys, devices = jax.random.split(KEY, 32), jax.devices()[:1]
        return population.Population(
            [(AGENT, ENV)], keys, devices=devices, batch_size=32, memory_budget=budget
        ).layout

    assert lay_out(1000 + room).batch_size == batch_size
    with pytest.raises(MemoryError, match="even one at a time"):
        lay_out(1099)


@pytest.mark.slow
def test_programs_share_the_budget():
    """The states of one wait on the devices while another's runs are trained."""
    keys = jax.random.split(KEY, 64)
    other = dataclasses.replace(AGENT, hidden_sizes=(64, 64))
    alone = population.Population(
        [(AGENT, ENV)], keys, devices=None, batch_size=1, memory_budget=2**30
    )
    needed, _ = programs.memory(alone._advance, alone.layout)
    of_other = 64 * population.state_bytes((other, ENV), keys, None)
    assert of_other > 2**20
    arguments = {"devices": None, "batch_size": 1, "memory_budget": needed + of_other}
    population.Population([(AGENT, ENV)], keys, **arguments, reserved=of_other)
    with pytest.raises(MemoryError, match="Sweep over fewer seeds or settings"):
        population.Population([(AGENT, ENV)], keys, **arguments, reserved=of_other + 1)
    with pytest.raises(MemoryError, match="Sweep over fewer seeds or settings"):
        sweep(
            num_seeds=64,
            settings={"hidden_sizes": [(8,), (64, 64)]},
            memory_budget=needed + of_other // 2,
            batch_size=1,
        )


@dataclasses.dataclass(frozen=True)
class Accelerator:
    free: int
    platform = "gpu"

    def memory_stats(self):
        return {"bytes_limit": self.free + 100, "bytes_in_use": 100}


def test_the_default_budget_is_most_of_what_is_free(monkeypatch):
    assert default_budget(None) == 2 * 2**30  # on a CPU
    cards = [Accelerator(2**33), Accelerator(2**34)]
    monkeypatch.setattr(jax, "local_devices", lambda: cards)
    assert default_budget(cards) == int(0.9 * (2**33 + 2**34))
    # Several processes agree on the least, in int32; even where none reports anything.
    gathered = []

    def all_gather(mebibytes):
        gathered.append(mebibytes)
        return np.array([mebibytes, 5000], np.int32)

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", all_gather)
    assert default_budget(cards) == 5000 * 2**20
    silent = [types.SimpleNamespace(platform="x", memory_stats=dict)]
    monkeypatch.setattr(jax, "local_devices", lambda: silent)
    assert default_budget(silent) == 5000 * 2**20
    assert gathered[0] == int(0.9 * (2**33 + 2**34)) >> 20
    assert gathered[1] == 2**31 - 1


@pytest.mark.usefixtures("two_devices")
def test_the_memory_of_a_program_is_that_of_all_its_devices():
    stats = types.SimpleNamespace(
        argument_size_in_bytes=10,
        output_size_in_bytes=5,
        alias_size_in_bytes=3,
        temp_size_in_bytes=7,
    )
    compiled = types.SimpleNamespace(memory_analysis=lambda: stats)
    layout = parallel.lay_out(4, devices=jax.devices()[:2])
    assert programs.memory(compiled, layout) == (2 * (10 + 5 - 3) + 2 * 7, 2 * 7)
    silent = types.SimpleNamespace(memory_analysis=lambda: None)
    assert programs.memory(silent, layout) == (0, 0)


@pytest.mark.parametrize("rates", [[1e-3], [1e-3, 1e-2, 1e-1]])
def test_no_more_is_reserved_than_the_states_of_others(rates, stand_in):
    keys = jax.random.split(KEY, 8)
    settings = {"hidden_sizes": [(8,), (64, 64)], "learning_rate": rates}
    expansion = expand(AGENT, ENV, settings)
    small, large = (
        8 * len(rates) * population.state_bytes(pair, keys, None)
        for pair in expansion.built[:: len(rates)]
    )
    assert small < large

    def start(budget):
        arguments = {"devices": jax.devices()[:1], "batch_sizes": 1, "identity": {}}
        runner.Runner(expansion, keys, 1, memory_budget=budget, **arguments)

    start(1100 + large)
    with pytest.raises(MemoryError, match="Sweep over fewer seeds or settings"):
        start(1100 + large - 1)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("platform", "batch_size"), [("cpu", 1), ("gpu", 16)])
def test_an_accelerator_takes_all_runs_at_once(platform, batch_size, monkeypatch):
    one = jax.devices()[:1]

    def lay_out(num_runs, *, devices, batch_size):
        return parallel.lay_out(num_runs, devices=one, batch_size=batch_size)

    monkeypatch.setattr(population, "lay_out", lay_out)
    there = [types.SimpleNamespace(platform=platform)]
    monkeypatch.setattr(jax, "devices", lambda: there)
    keys = jax.random.split(KEY, 16)
    arguments = {"batch_size": None, "memory_budget": 2**31}
    for devices in (there, None):
        found = population.Population(
            [(Q_LEARNING, MAZE)], keys, devices=devices, **arguments
        )
        assert found.layout.batch_size == batch_size


@pytest.mark.usefixtures("stand_in", "two_devices")
def test_a_core_s_cache_bounds_the_batches_on_a_cpu():
    def batch_size(agent, env, num_seeds):
        keys = jax.random.split(KEY, num_seeds)
        return population.Population(
            [(agent, env)], keys, devices=None, batch_size=None, memory_budget=2**31
        ).layout.batch_size

    assert batch_size(Q_LEARNING, MAZE, 64) == 32  # small tables: all of its share
    assert batch_size(Q_LEARNING, MAZE, 32) == 1  # but few of them one by one
    big = rljax.Reinforce(num_envs=8, rollout_length=400, hidden_sizes=(64, 64))
    assert batch_size(big, ENV, 64) <= 4


# Stopping and resuming.


def test_stopped_and_resumed_equals_uninterrupted(result, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "CHUNK_SECONDS", 0.0)
    checkpoints = Checkpoints(tmp_path / "checkpoints", interval=3600.0)
    record = Recorder()
    part = sweep(
        checkpoints=checkpoints,
        callbacks=[record],
        stop=lambda: len(record.reports) == 2,
        num_episodes=2,
    )
    assert part.num_updates == 2 and part[0].evaluation is None
    assert checkpoints.steps() == [2]
    np.testing.assert_array_equal(
        part[1].metrics.num_episodes, result[1].metrics.num_episodes[:, :2]
    )
    whole = sweep(checkpoints=checkpoints, resume=True, num_episodes=2)
    assert_bitwise_equal(whole.outcomes, result.outcomes)
    assert checkpoints.steps() == [2, 4]
    # Again, when all is done already; and with other devices, within tolerance.
    again = sweep(checkpoints=checkpoints, resume=True, num_episodes=2)
    assert_bitwise_equal(again.outcomes, result.outcomes)
    longer = sweep(num_updates=6)
    other = sweep(
        checkpoints=checkpoints, resume=True, num_updates=6, devices=jax.devices()[:1]
    )
    assert_close(longer.outcomes, other.outcomes)


@pytest.mark.slow
def test_functions_and_dictionaries_are_part_of_what_must_be_the_same(tmp_path):
    def agent(rate):
        return dataclasses.replace(AGENT, optimizer=lambda lr: optax.sgd(rate * lr))

    checkpoints = Checkpoints(tmp_path)
    arguments = {"settings": None, "num_seeds": 1, "checkpoints": checkpoints}
    sweep(agent(1.0), num_updates=1, **arguments)
    sweep(agent(1.0), num_updates=2, resume=True, **arguments)
    with pytest.raises(
        CheckpointError, match=r"captured\[0\] is 1.0 there and 2.0 here"
    ):
        sweep(agent(2.0), num_updates=3, resume=True, **arguments)
    assert describe({"a": np.array([np.nan])}) == {
        "a": [pytest.approx(np.nan, nan_ok=True)]
    }
    check_same("folder", {"a": float("nan")}, {"a": float("nan")})
    with pytest.raises(CheckpointError, match="another run: b is there alone"):
        check_same("folder", {"a": 1, "b": 2}, {"a": 1})


@pytest.mark.slow
def test_resuming_keeps_the_batch_size(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    whole = sweep(batch_size=2)
    sweep(batch_size=2, num_updates=2, checkpoints=checkpoints)
    assert checkpoints.describe(2)["batch_sizes"] == [2]
    assert_bitwise_equal(
        sweep(checkpoints=checkpoints, resume=True).outcomes, whole.outcomes
    )


@pytest.mark.slow
def test_a_broken_run_stays_broken_when_resumed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    settings = {"learning_rate": [1e-3, 1e30]}
    with pytest.warns(RuntimeWarning):
        sweep(settings=settings, num_updates=2, checkpoints=checkpoints)
    with pytest.warns(RuntimeWarning):
        resumed = sweep(settings=settings, checkpoints=checkpoints, resume=True)
    with pytest.warns(RuntimeWarning):
        whole = sweep(settings=settings)
    assert_bitwise_equal(resumed.outcomes, whole.outcomes)
    assert resumed.faults == whole.faults


def test_checkpoints_of_another_run_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    arguments = {"settings": None, "num_updates": 2, "checkpoints": checkpoints}
    sweep(**arguments)
    with pytest.raises(FileExistsError, match="holds checkpoints already. Pass resume"):
        sweep(**arguments)
    arguments["resume"] = True
    with pytest.raises(CheckpointError, match="num_seeds is 3 there and 4 here"):
        sweep(**arguments, num_seeds=4)
    with pytest.raises(CheckpointError, match=r"learning_rate is 0\.\d+ there and 0.5"):
        sweep(dataclasses.replace(AGENT, learning_rate=0.5), **arguments)
    with pytest.raises(
        CheckpointError, match=r"envs\[0\].env.gravity is 9.8 there and"
    ):
        sweep(env=rljax.make("CartPole-v1", gravity=1.0, max_steps=20), **arguments)
    with pytest.raises(CheckpointError, match=r"key.key\[1\] is 0 there and 7 here"):
        sweep(key=jax.random.key(7), **arguments)
    with pytest.raises(CheckpointError, match=r"settings is \['default'\] there"):
        sweep(**{**arguments, "settings": GRID})
    with pytest.raises(CheckpointError, match="agents.0..class is 'ActorCritic' there"):
        sweep(rljax.Reinforce(), **arguments)
    with pytest.raises(CheckpointError, match="of update 2, but num_updates is 1"):
        sweep(**{**arguments, "num_updates": 1})


def test_a_callback_that_can_not_write_ends_the_sweep_and_says_what_is_saved(tmp_path):
    def full(report):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"full could not write after update 1.*space"):
        sweep(callbacks=[full])

    def gone(report):
        (tmp_path / "csv").unlink(missing_ok=True)

    with pytest.raises(
        OSError, match=r"^CSVWriter could not write after update \d: .*csv was removed"
    ):
        sweep(callbacks=[writers.CSVWriter(tmp_path / "csv"), gone])
    checkpoints = Checkpoints(tmp_path)
    sweep(num_updates=2, checkpoints=checkpoints)
    # It fails when it is told of what was done before, not only of what comes next.
    with pytest.raises(
        OSError, match=r"after update 2: .*checkpoint is update 2; resume from it"
    ):
        sweep(callbacks=[full], checkpoints=checkpoints, resume=True)


def test_integers_that_do_not_fit_and_keys_are_refused():
    with pytest.raises(ValueError, match=r"TimeLimit.max_steps must be at most 21474"):
        sweep(settings={"env.max_steps": [10, 2**33]})
    with pytest.raises(
        ValueError, match=r"BreaksWhenPoisoned.poison does not fit int32, got"
    ):
        sweep(env=BreaksWhenPoisoned(rljax.CartPole(), 2**33))
    with pytest.raises(
        TypeError, match=r"BreaksWhenPoisoned.poison must not be a rand"
    ):
        sweep(env=BreaksWhenPoisoned(rljax.CartPole(), jax.random.key(0)))


def test_broken_from_the_start_says_so():
    def optimizer(learning_rate):
        sgd = optax.sgd(learning_rate)
        return optax.GradientTransformation(
            lambda params: (sgd.init(params), jnp.nan), lambda g, s, p: (g, s)
        )

    agent = dataclasses.replace(AGENT, optimizer=optimizer)
    with pytest.warns(RuntimeWarning, match=r"opt_state\S+ was NaN from the start"):
        result = sweep(agent, settings=None, num_seeds=1)
    assert [fault.update for fault in result.faults] == [0]
    assert np.isnan(result[0].metrics.agent["policy_loss"]).all()
    with pytest.raises(FloatingPointError, match="was NaN from the start"):
        sweep(agent, settings=None, num_seeds=1, debug=True)


@pytest.mark.slow
def test_infinity_is_no_nan_and_debug_says_so():
    def optimizer(learning_rate):
        return optax.GradientTransformation(
            lambda params: jnp.float32(1e30), lambda g, s, p: (g, s * 1e30)
        )

    agent = dataclasses.replace(AGENT, optimizer=optimizer)
    with pytest.raises(
        FloatingPointError, match="made no NaN: a number became infinite"
    ):
        sweep(agent, settings=None, num_seeds=1, debug=True)


@pytest.mark.parametrize(
    ("arguments", "flag", "debug"),
    [
        ({}, contextlib.nullcontext, False),
        ({"debug": True}, contextlib.nullcontext, True),
        ({}, jax.debug_nans, True),
        ({}, jax.debug_infs, True),
        ({"debug": True}, jax.debug_nans, True),
        ({}, jax.disable_jit, False),
    ],
)
def test_a_sweep_is_debugged_if_it_is_asked_for_anywhere(
    arguments, flag, debug, monkeypatch
):
    class Trained(Exception):
        pass

    class Runner:
        def __init__(self, *_, **__):
            pass

        def start(self):
            pass

        def train(self, callbacks, checkpoints, stop, debug):
            # Frozen runs report NaN on purpose, and programs are compiled.
            for name in ("debug_nans", "debug_infs", "disable_jit"):
                assert not getattr(jax.config, f"jax_{name}")
            raise Trained(debug)

    monkeypatch.setattr(sys.modules["rljax.experiment.sweep"], "Runner", Runner)
    with flag(True), pytest.raises(Trained) as trained:
        sweep(settings=None, num_seeds=1, **arguments)
    assert trained.value.args == (debug,)


@pytest.mark.slow
@pytest.mark.parametrize("flag", [jax.debug_nans, jax.debug_infs])
def test_jax_s_own_flags_mean_debug(flag):
    settings = {"learning_rate": [1e-3, 1e30]}
    with (
        flag(True),
        pytest.raises(FloatingPointError, match="1e.30', seed 0"),
    ):
        sweep(settings=settings)


# Results.


def test_without_evaluation_scores_are_the_last_episodes_of_training(result):
    outcome = sweep(num_updates=20, settings=None)[0]
    sums, counts = (
        x[:, 18:].sum(1)
        for x in (outcome.metrics.episode_return_sum, outcome.metrics.num_episodes)
    )
    np.testing.assert_allclose(
        outcome.scores, np.where(counts, sums / np.maximum(counts, 1), np.nan)
    )
    empty = sweep(num_updates=0, settings=None)
    assert np.isnan(empty.scores).all()
    with pytest.raises(ValueError, match="seed 0, has no score: no episode ended"):
        empty.best()


@pytest.mark.slow
def test_tasks_are_the_environments():
    result = sweep(
        Q_LEARNING,
        {"maze": MAZE, "tiny": rljax.GridWorld.from_text("A.G\n")},
        settings={"step_size": [0.1, 0.5]},
        num_updates=2,
    )
    scores = result.task_scores()
    assert list(scores) == ["step_size=0.1", "step_size=0.5"]
    np.testing.assert_array_equal(
        scores["step_size=0.5"], np.stack([result[1].scores, result[3].scores])
    )


def test_tasks_are_in_one_order_or_refused():
    agents = {"a": Q_LEARNING, "b": Q_LEARNING}
    envs = {"m": MAZE, "t": rljax.GridWorld.from_text("A.G\n")}
    pairs = [("a", "m"), ("a", "t"), ("b", "t"), ("b", "m")]
    settings = [{"agent": agent, "env": env} for agent, env in pairs]
    result = sweep(agents, envs, settings=settings, num_updates=2)
    scores = result.task_scores()
    np.testing.assert_array_equal(
        scores["agent=b"], np.stack([result[3].scores, result[2].scores])
    )
    part = dataclasses.replace(result, outcomes=result.outcomes[:3])
    with pytest.raises(ValueError, match="'agent=b' was run on .'t'., others on"):
        part.task_scores()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_seeds": 0}, "num_seeds must be at least 1, got 0"),
        ({"num_updates": -1}, "num_updates must be at least 0, got -1"),
        ({"num_episodes": -1}, "num_episodes must be at least 0, got -1"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"devices": []}, "devices must name at least one device"),
        ({"settings": {"gravity": [1]}}, "ActorCritic has no field for 'gravity'"),
        ({"key": jax.random.split(KEY)}, "key must be a single key"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sweep(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"callbacks": print}, "callbacks must be a list of functions of a report"),
        ({"callbacks": [3]}, "callbacks must be a list of functions of a report"),
        (
            {"checkpoints": "folder"},
            r"must be a rljax.experiment.Checkpoints\(folder\)",
        ),
        ({"stop": True}, "stop must be a function without arguments, got True"),
        ({"debug": 1}, "debug must be True or False, got 1"),
        ({"resume": "no"}, "resume must be True or False, got 'no'"),
        ({"memory_budget": 1e9}, "memory_budget must be an integer, got 1000000000.0"),
        ({"agent": 3}, "agent must be an agent"),
        ({"key": 3}, "key must be a random key"),
        ({"batch_size": 1.5}, "batch_size must be an integer, got 1.5"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        sweep(**arguments)
    with pytest.raises(ValueError, match="resume needs the checkpoints to go on from"):
        sweep(resume=True)
    with pytest.raises(TypeError, match="can't be jitted, vmapped or differentiated"):
        jax.jit(lambda key: sweep(key=key))(KEY)


# Writers.


@pytest.mark.slow
@pytest.mark.parametrize("writer", [writers.CSVWriter, writers.JSONLinesWriter])
def test_a_resumed_file_equals_an_uninterrupted_one(writer, tmp_path):
    settings = {"settings": {"hidden_sizes": [(4,), (4, 4)]}, "num_seeds": 2}
    sweep(callbacks=[writer(tmp_path / "whole")], **settings)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    path = tmp_path / "resumed"
    sweep(num_updates=2, checkpoints=checkpoints, callbacks=[writer(path)], **settings)
    # Rows that a killed run wrote after its last checkpoint, the last one torn.
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]) + lines[-2][:7])
    with pytest.raises(FileExistsError, match="resumed is there already.*resume=True"):
        sweep(callbacks=[writer(path)], **settings)
    # The same call as before, with resume=True, as in a notebook's cell run again.
    sweep(checkpoints=checkpoints, resume=True, callbacks=[writer(path)], **settings)
    assert path.read_text() == (tmp_path / "whole").read_text()


@pytest.mark.parametrize("writer", [writers.CSVWriter, writers.JSONLinesWriter])
def test_a_file_of_something_else_is_left_as_it_is(writer, tmp_path):
    path = tmp_path / "file"
    for content in ("update,mine\n0,precious\n", "[1, 2]\n", "a note\n", "\xff\n"):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(ValueError, match="from line 1 on. It is left as it is"):
            writer(path)(report(0, 2, resumed=True))
        with pytest.raises(FileExistsError, match="is there already. Choose another"):
            sweep(callbacks=[writer(path)], num_updates=1)
        assert path.read_text(encoding="latin-1") == content
    one = writer(tmp_path / "new")
    sweep(callbacks=[one], num_updates=1)
    with pytest.raises(ValueError, match="has served a sweep already"):
        one(report(0, 2, resumed=True))


@pytest.mark.parametrize("writer", [writers.CSVWriter, writers.JSONLinesWriter])
def test_a_file_of_another_sweep_is_left_as_it_is(writer, tmp_path):
    # The same columns, and rows that differ in one number of the third update.
    path = tmp_path / "file"
    ours = report(0, 4, resumed=True)
    writer(path)(ours._replace(resumed=False))
    content = path.read_text()
    length = ours.metrics[0].episode_length_sum.copy()
    length[1, 2] += 1
    other = ours._replace(
        metrics=(ours.metrics[0]._replace(episode_length_sum=length),)
    )
    line = 6 + (writer is writers.CSVWriter)
    with pytest.raises(ValueError, match=f"other rows .* from line {line} on"):
        writer(path)(other)
    assert path.read_text() == content
    for n in (1, 2, 4, 7):  # less, as much and more was done before
        writer(path)(report(0, n, resumed=True))
        assert len(path.read_text().splitlines()) == 2 * n + (
            writer is writers.CSVWriter
        )
        assert path.read_text()[:50] == content[:50]


def report(first_update, num_updates, resumed=False):
    """Of two seeds and one setting, with numbers that do not matter here."""
    ones = np.ones((2, num_updates - first_update))
    return reports.Report(
        settings=({"learning_rate": 1e-3},),
        metrics=(rljax.Metrics(ones.astype(int), ones, ones.astype(int), {}),),
        steps_per_update=(16,),
        first_update=first_update,
        num_updates=num_updates,
        total_updates=9,
        steps_per_second=1.0,
        faults=(),
        resumed=resumed,
    )


@pytest.mark.parametrize("writer", [writers.CSVWriter, writers.JSONLinesWriter])
def test_a_file_that_vanishes_or_changes_while_it_is_written_is_noticed(
    writer, tmp_path
):
    path = tmp_path / "file"
    write = writer(path)
    write(report(0, 2))
    write(report(2, 4))
    whole = path.read_text()
    assert len(whole.splitlines()) == 8 + (writer is writers.CSVWriter)
    path.rename(tmp_path / "kept")
    with pytest.raises(
        FileNotFoundError, match="file was removed while .* a checkpoint"
    ):
        write(report(4, 6))
    assert not path.exists()  # no rows without their header
    path.write_text(whole + "\n")
    with pytest.raises(OSError, match=r"file was replaced .* a checkpoint"):
        write(report(4, 6))
    (tmp_path / "kept").replace(path)
    with open(path, "a") as file:
        file.write("\n")
    with pytest.raises(OSError, match=r"file was changed while .* has \d+ bytes, \d+"):
        write(report(4, 6))
    assert path.read_text() == whole + "\n"


@pytest.mark.parametrize("writer", [writers.CSVWriter, writers.JSONLinesWriter])
def test_of_two_processes_on_one_file_the_last_to_start_has_all_its_rows(
    writer, tmp_path
):
    first = writer(tmp_path / "file")
    first(report(0, 3))
    second = writer(tmp_path / "file")
    second(report(0, 2, resumed=True))
    with pytest.raises(OSError, match="See that no other process writes there"):
        first(report(3, 4))
    second(report(2, 9))
    alone = writer(tmp_path / "alone")
    alone(report(0, 9))
    assert (tmp_path / "file").read_text() == (tmp_path / "alone").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "alone"}


@pytest.mark.parametrize("writer", [writers.CSVWriter, writers.JSONLinesWriter])
def test_a_file_that_can_not_be_written_is_named_and_leaves_nothing(
    writer, tmp_path, monkeypatch
):
    path = tmp_path / "file"
    writer(path)(report(0, 2))
    content = path.read_text()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writers.os, "replace", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        writer(path)(report(0, 2, resumed=True))
    assert path.read_text() == content
    assert [*tmp_path.iterdir()] == [path]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "rows", tmp_path / "link"
    target.touch()
    link.symlink_to(target)
    writers.CSVWriter(link)(report(0, 2, resumed=True))
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == 5


def test_writers_refuse_what_is_no_path_and_no_report(tmp_path):
    rich_console = pytest.importorskip("rich.console")
    for make in (writers.CSVWriter, writers.JSONLinesWriter):
        with pytest.raises(TypeError, match="path must be a path, got None"):
            make(None)
    with pytest.raises(TypeError, match="console must be a Console, such as rich"):
        writers.ProgressBar(sys.stdout)
    bar = writers.ProgressBar(rich_console.Console(quiet=True))
    for write in (writers.CSVWriter(tmp_path / "csv"), bar):
        with pytest.raises(TypeError, match="report must be a Report, such as a sweep"):
            write({"update": 1})


def test_a_file_begins_with_the_first_report(tmp_path):
    write = writers.CSVWriter(tmp_path / "file")
    with pytest.raises(ValueError, match="every report, from the first one on; .* 2"):
        write(report(2, 4))
    assert not (tmp_path / "file").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seed", "num_episodes"])
def test_a_metric_can_not_be_named_as_a_column(name):
    with pytest.raises(ValueError, match=f"'{name}' can't be the name of a metric"):
        sweep(measure=lambda agent, env, state: {name: 1.0})


@pytest.mark.slow
def test_a_metric_named_as_a_setting_is_told_from_it(tmp_path):
    sweep(
        measure=lambda agent, env, state: {"learning_rate": 7.0},
        callbacks=[writers.CSVWriter(tmp_path / "csv")],
        num_updates=1,
    )
    with open(tmp_path / "csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {float(row["learning_rate_metric"]) for row in rows} == {7.0}
    assert len({row["learning_rate"] for row in rows}) > 1


@pytest.mark.slow
def test_names_and_numbers_that_files_find_hard(tmp_path):
    agents = {"a\nb": AGENT, 'c,"d"': AGENT}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    arguments = {"settings": None, "num_seeds": 1, "checkpoints": checkpoints}
    path = tmp_path / "csv"
    sweep(agents, num_updates=1, callbacks=[writers.CSVWriter(path)], **arguments)
    again = writers.CSVWriter(path)
    sweep(agents, num_updates=2, callbacks=[again], resume=True, **arguments)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["agent"] for row in rows] == ["a\nb", 'c,"d"'] * 2
    line = writers.JSONLinesWriter(tmp_path / "json")._format({"x": np.inf}, ["x"])
    assert json.loads(line) == {"x": None}


@pytest.mark.slow
def test_tensorboard_has_a_run_per_setting_and_seed(tmp_path):
    pytest.importorskip("tensorboardX")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorboardX's own
        writer = writers.TensorBoardWriter(tmp_path)  # the sweep closes it
        sweep(callbacks=[writer], num_updates=2, num_seeds=2)
    folders = {str(p.parent.relative_to(tmp_path)) for p in tmp_path.rglob("events*")}
    assert len(folders) == 4 * 2
    assert "learning_rate=0.001, env.gravity=9.8/seed_1" in folders


def test_tensorboard_has_a_folder_per_setting_and_seed(result, tmp_path, monkeypatch):
    """With a stand-in for tensorboardX, which takes seconds to write its files."""
    runs, closed = {}, []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            assert purge_step == 1
            assert folder not in runs
            self.folder, self.logged = folder, runs.setdefault(folder, {})

        def add_scalar(self, name, value, update):
            self.logged[name, update] = value

        def close(self):
            closed.append(self.folder)

    stand_in = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "tensorboardX", stand_in)
    sweep(callbacks=[writers.TensorBoardWriter(tmp_path / "a")])
    folders = {
        str(tmp_path / "a" / outcome.label / f"seed_{seed}"): (outcome, seed)
        for outcome in result
        for seed in range(3)
    }
    assert {*runs} == {*folders} == {*closed}
    for folder, (outcome, seed) in folders.items():
        for i, loss in enumerate(outcome.metrics.agent["policy_loss"][seed]):
            assert runs[folder]["policy_loss", i + 1] == float(loss)
        assert not {name for name, _ in runs[folder]} & {"seed", "update"}


def test_weights_and_biases_has_a_run_per_setting_and_seed(result, monkeypatch):
    """With a stand-in for wandb, which needs a server or starts one."""

    class Run:
        def __init__(self, **arguments):
            self.arguments, self.logged, self.finished = arguments, [], False

        def log(self, values, step):
            self.logged.append((step, values))

        def finish(self):
            self.finished = True

    runs = []

    def init(**arguments):
        runs.append(Run(**arguments))
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    writer = writers.WandBWriter("project", tags=["x"])
    sweep(callbacks=[writer])
    assert len(runs) == 4 * 3
    assert all(run.finished for run in runs)
    run = runs[3 + 1]
    assert run.arguments == {
        "project": "project",
        "tags": ["x"],
        "group": "learning_rate=0.001, env.gravity=20.0",
        "name": "learning_rate=0.001, env.gravity=20.0 seed 1",
        "config": {"learning_rate": "0.001", "env.gravity": "20.0", "seed": 1},
        "reinit": "create_new",
    }
    assert [step for step, _ in run.logged] == [1, 2, 3, 4]
    loss = result[1].metrics.agent["policy_loss"][1]
    assert [values["policy_loss"] for _, values in run.logged] == [
        float(x) for x in loss
    ]


@pytest.mark.parametrize(
    ("module", "make"),
    [
        ("wandb", lambda: writers.WandBWriter("project")),
        ("tensorboardX", lambda: writers.TensorBoardWriter("folder")),
        ("orbax.checkpoint", lambda: Checkpoints("folder")),
    ],
)
def test_what_is_not_installed_is_asked_for(module, make, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="pip install"):
        make()


def test_a_bar_shows_how_far_it_is():
    rich_console = pytest.importorskip("rich.console")
    console = rich_console.Console(record=True, force_terminal=True, width=100)
    stdout = sys.stdout
    sweep(callbacks=[writers.ProgressBar(console)])
    assert sys.stdout is stdout  # rich's own stands in for it while a bar moves
    shown = console.export_text()
    assert "4/4" in shown
    assert "compiling …" in shown


def test_a_bar_can_serve_one_sweep_after_another_and_with_a_block_around(tmp_path):
    rich_console = pytest.importorskip("rich.console")
    console = rich_console.Console(record=True, force_terminal=True, width=100)
    with writers.ProgressBar(console) as bar:
        for total in (3, 5):
            with bar:
                bar(report(0, 2)._replace(total_updates=total))
                bar(report(2, total)._replace(total_updates=total))
    shown = console.export_text()
    assert "3/3" in shown
    assert "5/5" in shown
    assert bar._shown is None


def test_where_nothing_can_move_there_are_lines(monkeypatch):
    rich_console = pytest.importorskip("rich.console")
    clock = itertools.count(0, 2)  # each look at it is two seconds later
    monkeypatch.setattr(writers.time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    bar = writers.ProgressBar(rich_console.Console(file=out, width=20))
    with bar:
        for update in range(9):
            bar(report(update, update + 1))
    lines = out.getvalue().splitlines()
    assert lines[0] == "compiling …"
    assert lines[1] == "3/9 updates · 1 steps/s · median return 1.0"
    assert lines[-1].startswith("9/9 updates")
    assert 3 < len(lines) < 8


class Noting:
    """A callback that notes what is done with it."""

    def __init__(self, refuses=False):
        self.noted, self.refuses = [], refuses

    def prepare(self, resumed):
        self.noted.append(("prepare", resumed))
        if self.refuses:
            raise ValueError("not with me")

    def __enter__(self):
        self.noted.append("enter")

    def __exit__(self, *exc_info):
        self.noted.append("exit")

    def __call__(self, report):
        self.noted.append(report.num_updates)


def test_a_sweep_prepares_enters_and_leaves_its_callbacks():
    callback = Noting()
    sweep(callbacks=[callback], num_updates=1)
    assert callback.noted == [("prepare", False), "enter", 1, "exit"]
    callback = Noting(refuses=True)
    with pytest.raises(ValueError, match="not with me"):
        sweep(callbacks=[callback], num_updates=1)
    assert callback.noted == [("prepare", False)]

    def fail(report):
        raise ZeroDivisionError

    callback = Noting()
    with pytest.raises(ZeroDivisionError):
        sweep(callbacks=[callback, fail], num_updates=1)
    assert callback.noted[-1] == "exit"


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_signal_ends_a_sweep_when_all_is_saved(number, tmp_path):
    # In a process of its own, as it ends as the signal asks.
    code = f"""
import os, signal, sys
import jax, rljax
from rljax.experiment import Checkpoints
# As in a terminal: in the background of a shell it would be ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
def send(report):
    if report.num_updates == 3:
        os.kill(os.getpid(), {int(number)})
agent = rljax.QLearning(rollout_length=4)
try:
    rljax.sweep(agent, rljax.GaussianBandit(), jax.random.key(0), num_seeds=1,
        num_updates=10**6, callbacks=[send], checkpoints=Checkpoints(sys.argv[1]))
except KeyboardInterrupt as error:
    print("KeyboardInterrupt:", error)
    sys.exit(77)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == (77 if number == signal.SIGINT else -signal.SIGTERM)
    where = f"Stopped after update 3 of 1000000, which is saved in {tmp_path}"
    assert where in " ".join(done.stdout.split())
    assert "Go on from there with resume=True" in done.stdout
    assert Checkpoints(tmp_path / "saved").steps() == [3]


@pytest.fixture
def gone(monkeypatch):
    """An output whose reader has gone, as `tee` does by the same Ctrl-C."""

    def write(text):
        raise BrokenPipeError

    out = types.SimpleNamespace(write=write, flush=lambda: None)
    monkeypatch.setattr(sys, "stdout", out)


@pytest.mark.usefixtures("gone", "interruptible")
def test_a_signal_is_heard_once_even_if_it_is_sent_twice_and_nobody_reads(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with signals.deferred() as asked:
        signal.raise_signal(signal.SIGINT)
        now[0] += 0.1
        signal.raise_signal(signal.SIGINT)  # passed on by a wrapper
        assert asked.number == signal.SIGINT
        now[0] += 5
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_ends_by_a_signal_says_first_what_is_saved(capsys):
    said = []
    handler = signal.signal(
        signal.SIGTERM, lambda *_: said.append(capsys.readouterr().out)
    )
    try:
        with pytest.raises(SystemExit) as ended:
            signals.end(signal.SIGTERM, "All is saved.")
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 128 + signal.SIGTERM
    assert said == ["All is saved.\n"]
    with pytest.raises(KeyboardInterrupt, match="All is saved"):
        signals.end(signal.SIGINT, "All is saved.")


@pytest.fixture
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_without_checkpoints_and_for_other_handlers_signals_do_what_they_did():

    def interrupt(report):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sweep(callbacks=[interrupt])
    with signals.deferred() as asked:
        with signals.deferred() as inner:
            signal.raise_signal(signal.SIGTERM)
        assert (asked.number, inner.number) == (signal.SIGTERM, None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with signals.deferred() as asked:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with signals.deferred() as inner:
            signal.raise_signal(signal.SIGINT)  # ignored, as before
    assert (asked.number, inner.number) == (None, None)
