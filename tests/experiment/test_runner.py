"""What a sweep reports of its pace, and how a resumed one is laid out."""

import itertools
import types

import jax

import rljax
from rljax.experiment import runner
from rljax.experiment.checkpoint import Checkpoints

MAZE = rljax.make("GridWorld-5x5")
AGENT = rljax.QLearning(
    exploration=rljax.exploration.EpsilonGreedy(0.1), rollout_length=10
)


def sweep(num_updates, settings, **arguments):
    arguments |= {"num_seeds": 3, "num_updates": num_updates, "settings": settings}
    return rljax.sweep(AGENT, MAZE, jax.random.key(0), **arguments)


def test_steps_per_second_are_those_of_all_settings_and_seeds(monkeypatch):
    ticks = itertools.count(step=2)  # each chunk takes 2 seconds by this clock
    clock = types.SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(runner, "time", clock)
    reports = []
    sweep(5, {"rollout_length": [10, 4]}, callbacks=[reports.append])
    assert sum(r.num_updates - r.first_update for r in reports) == 5
    for report in reports:
        updates = report.num_updates - report.first_update
        assert report.steps_per_second == (10 + 4) * 3 * updates / 2


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
