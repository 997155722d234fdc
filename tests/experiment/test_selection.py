"""What was chosen on some seeds is judged on others."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats

import rljax
from rljax.experiment import selection, statistics
from rljax.experiment.faults import Fault
from rljax.experiment.results import Procedure
from tests.plotting.results import result_with

KEY = jax.random.key(0)
HOW = Procedure(KEY, 0, 10, 100, True, None, None, None, None, None)


def with_settings(result, settings):
    """The result with other settings and with a procedure."""
    outcomes = [
        outcome._replace(setting=setting)
        for outcome, setting in zip(result.outcomes, settings, strict=True)
    ]
    return dataclasses.replace(result, outcomes=tuple(outcomes), procedure=HOW)


def test_a_summary_has_the_scores_of_each_setting():
    scores = np.array([[1.0, 7, 2, 5, 3, 11, 4, 9], [2.0, 2, 2, 2, 2, 2, 2, 2]])
    first, second = result_with(scores, broken=(1,)).summary()
    low, high = first.pop("iqm_low"), first.pop("iqm_high")
    assert scores[0].min() < low < 4.75 < high < scores[0].max()
    assert first == {
        "x": 0,
        "iqm": 4.75,  # of 3, 4, 5 and 7
        "min": 1.0,
        "max": 11.0,
        "num_broken": 0,
        "num_cut": 0,
        "num_seeds": 8,
    }
    assert (second["x"], second["num_broken"], second["num_seeds"]) == (1, 8, 8)
    assert second["min"] == second["max"] == second["iqm"] == -np.inf


@pytest.fixture
def asked(monkeypatch):
    """What is asked of `sweep`, which here gives scores of 7 and one broken run."""
    calls = []

    def sweep(agent, env, key, *, num_seeds, **arguments):
        calls.append((agent, env, key, num_seeds, arguments))
        fresh = result_with(np.full((1, num_seeds), 7.0))
        return dataclasses.replace(fresh, faults=(Fault("default", 3, 1, "w"),))

    monkeypatch.setattr(selection, "sweep", sweep)
    return calls


def test_one_setting_is_chosen_for_each_agent_and_environment(asked):
    settings = [
        {"agent": agent, "env": env, "x": x}
        for agent in "ab"
        for env in ("p", "q")
        for x in (1, 2)
    ]
    scores = [[1, 2], [3, 4], [9, 9], [5, 5], [0, 0], [0, 1], [8, 8], [8, 9]]
    result = with_settings(result_with(scores), settings)
    found = rljax.experiment.confirm(result, num_seeds=5)
    chosen = [settings[i] for i in (1, 2, 5, 7)]
    assert [outcome.setting for outcome in found.result.outcomes] == chosen
    assert [outcome.setting for outcome in found.tuned] == chosen
    np.testing.assert_array_equal(found.overestimation, [-3.5, 2, -6.5, 1.5])
    assert [fault.setting for fault in found.result.faults] == [
        outcome.label for outcome in found.tuned
    ]
    rows = found.summary()
    assert [row["tuned_iqm"] for row in rows] == [3.5, 9, 0.5, 8.5]
    assert [row["tuned_seeds"] for row in rows] == [2] * 4
    assert [row["num_seeds"] for row in rows] == [5] * 4
    assert [row["iqm"] for row in rows] == [7] * 4
    assert [row["overestimation"] for row in rows] == [-3.5, 2, -6.5, 1.5]
    assert "agent=a, env=q, x=1: 7 [7, 7], promised 9" in repr(found)
    assert ">agent=a, env=q, x=1</td>" in found._repr_html_()
    # The whole procedure of the sweep, with a key of its own.
    for agent, _, key, num_seeds, arguments in asked:
        assert agent == rljax.QLearning()
        assert num_seeds == 5
        assert key == jax.random.fold_in(KEY, 2)
        assert arguments == {
            "num_updates": 0,
            "num_episodes": 10,
            "max_steps": 100,
            "greedy": True,
            "measure": None,
            "keep_best": None,
            "devices": None,
            "batch_size": None,
            "memory_budget": None,
            "callbacks": (),
        }
    asked.clear()
    per_x = rljax.experiment.confirm(result, num_seeds=1, per=["x"])
    assert [outcome.setting["x"] for outcome in per_x.tuned] == [1, 2]
    assert per_x.tuned[0].setting == settings[2]
    asked.clear()
    (one,) = rljax.experiment.confirm(result, num_seeds=1, per=[]).tuned
    assert one.setting == settings[2]
    assert len(asked) == 1
    alone = rljax.experiment.confirm(result, num_seeds=4, per=[])
    assert repr(alone).startswith("Confirmation on 4 fresh seeds")


def test_bad_arguments_are_refused(asked):
    result = with_settings(result_with([[1, 2], [3, 4]]), [{"x": 1}, {"x": 2}])
    confirm = rljax.experiment.confirm
    for wrong, error, words in (
        ({"num_seeds": 0}, ValueError, "num_seeds must be at least 1, got 0"),
        ({"per": "x"}, TypeError, r"per must be a list of names, such as \['x'\]"),
        ({"per": ["y"]}, ValueError, "per must name fields of the settings, x, got"),
        ({"key": KEY}, ValueError, "key must be another than that of the sweep"),
        ({"key": jax.random.PRNGKey(0)}, ValueError, "key must be another"),
        ({"key": 3}, TypeError, "key"),
    ):
        with pytest.raises(error, match=words):
            confirm(result, **{"num_seeds": 3} | wrong)
    with pytest.raises(TypeError, match=r"result .* rljax.sweep returns"):
        confirm(result.scores, num_seeds=3)
    with pytest.raises(ValueError, match="must be what rljax.sweep returned"):
        confirm(dataclasses.replace(result, procedure=None), num_seeds=3)
    stopped = dataclasses.replace(result, procedure=HOW._replace(num_updates=9))
    with pytest.raises(ValueError, match="all 9 updates, but .* stopped after 0"):
        confirm(stopped, num_seeds=3)
    unscored = with_settings(result_with([[1, np.nan]]), [{"x": 1}])
    with pytest.raises(ValueError, match="'x=1', seed 1, has no score"):
        confirm(unscored, num_seeds=3)
    assert asked == []
    confirm(result, num_seeds=3, key=jax.random.key(1))
    assert asked[0][2] == jax.random.key(1)


@pytest.mark.slow
def test_the_fresh_runs_are_those_of_a_sweep_with_the_fresh_key():
    env = rljax.make("GridWorld-5x5", max_steps=50)
    agent = rljax.QLearning(rollout_length=50)
    arguments = {"num_seeds": 3, "num_episodes": 2}
    result = rljax.sweep(
        agent,
        env,
        KEY,
        num_steps=1000,
        settings={"discount": [0.5, 0.99]},
        **arguments,
    )
    assert result.procedure.num_updates == 20
    found = rljax.experiment.confirm(result, num_seeds=3)
    best = result.best()
    assert found.tuned[0].label == best.label
    (outcome,) = found.result.outcomes
    again = rljax.sweep(
        best.agent,
        env,
        jax.random.fold_in(KEY, 2),
        num_updates=20,
        **arguments,
    )
    np.testing.assert_array_equal(
        outcome.metrics.episode_return_sum, again[0].metrics.episode_return_sum
    )
    np.testing.assert_array_equal(outcome.scores, again[0].scores)
    returns = best.metrics.episode_return_sum
    assert not np.array_equal(outcome.metrics.episode_return_sum, returns)
    assert found.result.to_xarray().sizes["setting"] == 1


@pytest.mark.slow
def test_the_command_confirms_what_it_chose(tmp_path):
    command = [sys.executable, "-m", "rljax", "sweep", "ppo", "--output", str(tmp_path)]
    flags = "--grid learning_rate=1e-5,3e-3 --num-steps 20000 --num-seeds 2 --confirm 3"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, *flags.split()], cwd=root, capture_output=True, text=True, check=True
    )
    assert "Confirmation on 3 fresh seeds" in done.stdout
    (folder,) = tmp_path.iterdir()
    with (folder / "summary.csv").open() as file:
        rows = {row["learning_rate"]: row for row in csv.DictReader(file)}
    with (folder / "confirmed.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["learning_rate"] == "0.003"
    assert row["tuned_iqm"] == rows["0.003"]["iqm"]
    assert (row["num_seeds"], row["tuned_seeds"]) == ("3", "2")
    assert row["iqm"] != row["tuned_iqm"]
    wrong = subprocess.run(
        [*command, "--confirm", "0"], cwd=root, capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert "--confirm must be at least 1, got 0" in wrong.stderr


def test_what_selection_promises_too_much_is_what_theory_says():
    # The best of 20 means of 4 normal scores promises E[max of 20 N(0, 1/4)] = 0.93
    # more than it holds, where all settings are alike.
    rng = np.random.default_rng(0)
    promised = []
    for _ in range(100):
        result = result_with(rng.normal(size=(20, 4)))
        promised.append(result.best().scores.mean())
    grid = np.linspace(-8, 8, 20_001)
    density = 20 * stats.norm.pdf(grid) * stats.norm.cdf(grid) ** 19
    expected = (grid * density).sum() * (grid[1] - grid[0]) / 2
    # The interquartile mean of 4 scores, which chooses, is noisier than their mean.
    assert 0.8 * expected < np.mean(promised) < expected


def test_sensitivity_takes_the_best_of_the_other_fields():
    settings = [
        {"agent": agent, "x": x, "y": y}
        for agent in "ab"
        for x in (0.1, 1.0)
        for y in (1, 2)
    ]
    scores = [[1, 1], [2, 2], [4, 5], [3, 3], [0, 0], [0, 0], [6, 6], [7, 8]]
    result = with_settings(result_with(scores), settings)
    found = rljax.experiment.sensitivity(result, "x")
    assert list(found) == ["agent=a", "agent=b"]
    first, second = found.values()
    assert first.values == second.values == (0.1, 1.0)
    np.testing.assert_array_equal(first.iqm, [2, 4.5])
    np.testing.assert_array_equal(first.low, [2, 4])
    np.testing.assert_array_equal(first.high, [2, 5])
    assert first.labels == ("agent=a, x=0.1, y=2", "agent=a, x=1.0, y=1")
    np.testing.assert_array_equal(second.iqm, [0, 7.5])
    (whole,) = rljax.experiment.sensitivity(result, "y", per=[]).values()
    np.testing.assert_array_equal(whole.iqm, [6, 7.5])
    without = [*settings[:4], {"agent": "b", "y": 1}]
    listed = with_settings(result_with(scores[:5]), without)
    assert list(rljax.experiment.sensitivity(listed, "x")) == ["agent=a"]
    with pytest.raises(ValueError, match="name must be one of agent, x, y, got 'z'"):
        rljax.experiment.sensitivity(result, "z")


@pytest.mark.parametrize("improvement", [0.6, 0.7, 0.8])
def test_so_many_seeds_tell_two_agents_apart(improvement):
    """Mann and Whitney's test on 4,000 pairs of agents with normal or skewed scores."""
    num_seeds = statistics.seeds_to_detect(improvement)
    rng = np.random.default_rng(0)
    size = (2, 4000, num_seeds)
    shift = 2**0.5 * stats.norm.ppf(improvement)
    # Of two exponential scores, one with twice the scale is above with 2/3, and so on.
    scale = improvement / (1 - improvement)
    for (x, y), (better, _) in (
        (normal := rng.normal(size=size), (normal[0] + shift, None)),
        (skewed := rng.exponential(size=size), (skewed[0] * scale, None)),
    ):
        wins = (better > y).mean()
        assert wins == pytest.approx(improvement, abs=0.01)
        found = stats.mannwhitneyu(better, y, axis=1).pvalue < 0.05
        assert 0.77 < found.mean() < 0.88
        null = stats.mannwhitneyu(x, y, axis=1).pvalue < 0.05
        assert 0.02 < null.mean() < 0.06


def test_seeds_to_detect_by_hand_and_its_limits():
    # (1.95996 + 0.84162)² / (6 · 0.01) = 130.8
    assert statistics.seeds_to_detect(0.6) == 131
    # (2.57583 + 1.28155)² / (6 · 0.04) = 62.0
    assert statistics.seeds_to_detect(0.7, confidence=0.99, power=0.9) == 62
    # Fewer could never reject: 2 / C(8, 4) = 0.029 is the first below 0.05.
    assert statistics.seeds_to_detect(1.0, power=0.01) == 4
    for wrong in (
        {"improvement": 0.5},
        {"improvement": 1.1},
        {"power": 1.0},
        {"power": 0},
        {"confidence": 1},
    ):
        (name,) = wrong
        range_ = r"\(0.5, 1\]" if name == "improvement" else r"\(0, 1\)"
        with pytest.raises(ValueError, match=f"{name} must be in {range_}"):
            statistics.seeds_to_detect(**{"improvement": 0.7} | wrong)
    with pytest.raises(TypeError, match="improvement must be in"):
        statistics.seeds_to_detect("much")
