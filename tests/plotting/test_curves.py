"""Learning curves: each line is its statistic, computed here again."""

import jax
import numpy as np
import pytest
from scipy import stats

from rljax import plotting
from rljax.experiment import statistics
from rljax.training import Metrics

RETURNS = np.random.default_rng(0).uniform(0, 100, (5, 6))


def metrics_of(returns, counts=None):
    """An update with one episode, or so many, of these returns."""
    counts = np.ones(np.shape(returns), int) if counts is None else np.array(counts)
    return Metrics(counts, np.asarray(returns) * counts, counts, {})


def test_a_learning_curve_is_the_middle_of_its_seeds(names_of, line_named, band_of):
    figure = plotting.learning_curve(metrics_of(RETURNS), steps_per_update=10)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "environment steps per seed"
    assert axes.get_ylabel() == "episode return in training"
    found = line_named(axes, "IQM of 5 seeds")
    np.testing.assert_allclose(found[:, 0], 10 * np.arange(1, 7))
    # A quarter of 5 seeds, rounded down, is one.
    expected = np.sort(RETURNS, axis=0)[1:-1].mean(0)
    np.testing.assert_allclose(found[:, 1], expected)
    for seed, line in zip(RETURNS, axes.lines[:5], strict=True):
        np.testing.assert_allclose(line.get_ydata(), seed)
    x, low, high = band_of(axes)
    np.testing.assert_allclose(x, found[:, 0])
    ends = statistics.bootstrap_interval(RETURNS.T, num_resamples=500)
    np.testing.assert_allclose((low, high), ends)
    assert names_of(axes) == ["IQM of 5 seeds", "95 % bootstrap interval", "one seed"]
    assert axes.get_xlim() == (0, 60)


def test_the_mean_has_students_interval(line_named, band_of):
    (axes,) = plotting.learning_curve(metrics_of(RETURNS), statistic="mean").axes
    assert axes.get_xlabel() == "updates"
    found = line_named(axes, "mean of 5 seeds")
    np.testing.assert_allclose(found, np.stack([np.arange(1, 7), RETURNS.mean(0)], 1))
    half = stats.t.ppf(0.975, 4) * RETURNS.std(0, ddof=1) / np.sqrt(5)
    _, low, high = band_of(axes)
    np.testing.assert_allclose((high - low) / 2, half)


def test_windows_without_an_episode_of_a_seed_leave_it_out(line_named, band_of):
    counts = np.ones((5, 6), int)
    counts[0, :2] = counts[3, 1] = 0
    counts[:, 4] = 0
    (axes,) = plotting.learning_curve(metrics_of(RETURNS, counts)).axes
    found = line_named(axes, "IQM of 5 seeds")[:, 1]
    for i, (column, seen) in enumerate(zip(RETURNS.T, counts.T > 0, strict=True)):
        expected = np.nan
        if seen.any():
            expected = statistics.interquartile_mean(column[seen])
        np.testing.assert_allclose(found[i], expected)
    # The band has a gap where the curve has.
    assert len(axes.collections[0].get_paths()) == 2


def test_runs_are_compared_by_name(line_named, names_of):
    runs = {"ppo": metrics_of(RETURNS), "reinforce": metrics_of(RETURNS[:3, :4] / 2)}
    figure = plotting.learning_curve(
        runs, steps_per_update={"ppo": 10, "reinforce": 100}
    )
    (axes,) = figure.axes
    assert names_of(axes) == ["ppo", "reinforce"]
    assert axes.get_legend().get_title().get_text() == "IQM, 95 % bootstrap interval"
    assert len(axes.lines) == len(axes.collections) == 2  # no line for each seed
    for name, step, returns in (
        ("ppo", 10, RETURNS),
        ("reinforce", 100, RETURNS[:3, :4] / 2),
    ):
        found = line_named(axes, name)
        np.testing.assert_allclose(found[:, 0], step * np.arange(1, 1 + len(found)))
        middles = statistics.interquartile_mean(returns, axis=0)
        np.testing.assert_allclose(found[:, 1], middles)
    assert axes.get_xlim() == (0, 400)
    colors = {line.get_color() for line in axes.lines}
    assert len(colors) == 2


def test_one_seed_needs_no_axis(line_named, names_of):
    for metrics in (
        metrics_of(RETURNS[:1]),
        jax.tree.map(lambda x: x[0], metrics_of(RETURNS)),
    ):
        (axes,) = plotting.learning_curve(metrics).axes
        np.testing.assert_allclose(line_named(axes, "one seed")[:, 1], RETURNS[0])
        assert names_of(axes) == ["one seed"]
        assert not axes.collections


def test_windows_shorten_the_curve(line_named):
    (axes,) = plotting.learning_curve(metrics_of(RETURNS), num_windows=2).axes
    found = line_named(axes, "IQM of 5 seeds")
    means = RETURNS.reshape(5, 2, 3).mean(-1)
    np.testing.assert_array_equal(found[:, 0], [3, 6])
    np.testing.assert_allclose(found[:, 1], statistics.interquartile_mean(means, 0))


def test_a_learning_curve_is_saved_with_its_title(drawn, line_named):
    _, (axes,) = drawn(
        plotting.save_learning_curve,
        metrics_of(RETURNS),
        steps_per_update=10,
        title="a title",
        num_windows=3,
    )
    assert axes.get_title() == "a title"
    found = line_named(axes, "IQM of 5 seeds")
    np.testing.assert_array_equal(found[:, 0], [20, 40, 60])


def test_a_learning_curve_with_gaps_is_written(tmp_path):
    data = metrics_of([[0, 30, 0, 0], [0, 0, 0, 4]], [[0, 3, 0, 0], [0, 0, 0, 2]])
    path = tmp_path / "curve.png"
    for _ in range(2):  # a picture is replaced
        plotting.save_learning_curve(path, data, steps_per_update=10, title="test")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": RETURNS}, "metrics must be a Metrics, such as rljax.train"),
        ({"metrics": {}}, "metrics must have a run at least, got {}"),
        ({"metrics": {"a": RETURNS}}, r"metrics\['a'\] must be a Metrics, such as"),
        ({"statistic": "median"}, "statistic must be 'iqm' or 'mean', got 'median'"),
        ({"steps_per_update": 0}, "steps_per_update must be at least 1, got 0"),
        ({"steps_per_update": {}}, "steps_per_update must be a dictionary with ''"),
        ({"num_windows": 0}, "num_windows must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plotting.learning_curve(**{"metrics": metrics_of(RETURNS), **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": 3}, "path must be a path, got 3"),
        ({"metrics": RETURNS}, "metrics must be a Metrics, such as rljax.train"),
        ({"metrics": {"a": metrics_of(RETURNS)}}, "metrics must be a Metrics"),
    ],
)
def test_what_cannot_be_saved_is_refused_by_name(arguments, message):
    usual = {"path": "x.png", "metrics": metrics_of(RETURNS)}
    with pytest.raises(TypeError, match=message):
        plotting.save_learning_curve(
            **{**usual, **arguments}, steps_per_update=1, title=""
        )
