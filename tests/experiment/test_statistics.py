"""Statistics over seeds."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rljax.experiment import statistics as metrics
from rljax.training import Metrics


def episodes(counts, totals):
    counts, totals = np.array(counts), np.array(totals, float)
    return Metrics(counts, totals, counts, {})


def test_interquartile_mean_by_hand():
    # A quarter of 8 at either end goes: (2 + 3 + 4 + 5) / 4.
    assert metrics.interquartile_mean([100, 0, 1, 2, 3, 4, 5, 6]) == 3.5
    assert metrics.interquartile_mean([1.0, 2.0]) == 1.5


def test_bootstrap_interval_covers():
    # In 200 experiments of 16 normal scores, the interval holds the true 0 in about
    # 95 % of them; percentile intervals of so few are known to be somewhat short.
    scores = np.random.default_rng(0).normal(size=(200, 16))
    low, high = metrics.bootstrap_interval(scores, num_resamples=500)
    coverage = ((low < 0) & (high > 0)).mean()
    assert 0.85 < coverage < 0.98
    assert (low < metrics.interquartile_mean(scores)).all()


def test_the_interval_of_a_mean_covers():
    scores = np.random.default_rng(1).normal(2.0, 3.0, size=(5, 20_000))
    mean, low, high = metrics.mean_interval(scores, confidence=0.9)
    np.testing.assert_allclose(mean, scores.mean(0))
    # Five standard errors of a share of 0.9 in 20,000.
    assert ((low < 2) & (high > 2)).mean() == pytest.approx(0.9, abs=0.011)


@pytest.mark.parametrize("shift", [0.0, 0.9539])
def test_the_interval_of_an_improvement_covers(shift):
    """P(X > Y) = Φ(shift/√2): ½, where 5 % of intervals may miss it, and ¾."""

    def improvement(x, y):
        return (x[..., :, None] > y[..., None, :]).mean((-1, -2, -3))

    rng = np.random.default_rng(2)
    truth, covered = stats.norm.cdf(shift / 2**0.5), []
    for _ in range(300):
        x, y = rng.normal(shift, size=(1, 16)), rng.normal(size=(1, 16))
        low, high = metrics.stratified_interval(
            improvement, x, y, num_resamples=400, vectorized=True
        )
        covered.append(low <= truth <= high)
    assert 0.89 < np.mean(covered) < 0.98


def test_bootstrap_of_equal_scores_and_of_one_seed():
    assert metrics.bootstrap_interval([500.0] * 8) == (500, 500)
    assert metrics.bootstrap_interval([3.0]) == (3, 3)
    with pytest.raises(ValueError, match="confidence must be in"):
        metrics.bootstrap_interval([1.0, 2.0], confidence=95)


def test_windows_weigh_episodes_not_updates():
    data = episodes([[1, 3, 0, 0], [0, 0, 0, 2]], [[10, 90, 0, 0], [0, 0, 0, 8]])
    updates, means = metrics.windowed_episode_returns(data, 2)
    np.testing.assert_array_equal(updates, [2, 4])
    np.testing.assert_array_equal(means, [[25, np.nan], [np.nan, 4]])
    updates, _ = metrics.windowed_episode_returns(data, 100)
    np.testing.assert_array_equal(updates, [1, 2, 3, 4])


def test_metrics_of_a_lone_seed_need_their_axis():
    with pytest.raises(ValueError, match=r"got shape \(4,\) and 2.* add its axis"):
        metrics.windowed_episode_returns(episodes([1, 3, 0, 0], [10, 90, 0, 0]), 2)


# rliable's own test cases, as [num_tasks, num_seeds].
X = np.array([[1, 2, 1, 2], [2, 2, 1, 1]])
Y = np.array([[1, 2, 3], [1, 2, 3]])


def test_the_published_cases_of_rliable():
    assert metrics.interquartile_mean(X.ravel()) == 1.5
    assert metrics.interquartile_mean(Y.ravel()) == 2.0
    assert metrics.probability_of_improvement(X, Y) == pytest.approx(1 / 3)
    assert metrics.probability_of_improvement(Y, X) == pytest.approx(2 / 3)


def test_probability_of_improvement_is_mann_and_whitney_s_u():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (3, 7)), rng.integers(0, 9, (3, 5))
    expected = [
        stats.mannwhitneyu(a, b).statistic / 35 for a, b in zip(x, y, strict=True)
    ]
    assert metrics.probability_of_improvement(x, y) == pytest.approx(np.mean(expected))
    assert metrics.probability_of_improvement(x, x) == 0.5
    assert metrics.probability_of_improvement(x, np.full((3, 2), -np.inf)) == 1.0


def test_performance_profile_counts_the_runs_above():
    scores = np.array([[0.0, 1.0, 2.0, -np.inf], [3.0, 3.0, 3.0, 3.0]])
    profile = metrics.performance_profile(scores, [-1.0, 0.0, 1.5, 3.0])
    np.testing.assert_allclose(profile, [7 / 8, 6 / 8, 5 / 8, 0])


def test_the_stratified_interval_covers_as_often_as_it_says():
    """Mean of 3 tasks × 12 normal scores: the share of 400 intervals that hold it."""
    rng = np.random.default_rng(0)
    means = np.array([[0.0], [5.0], [100.0]])
    covered = 0
    for i in range(400):
        scores = means + rng.normal(size=(3, 12))
        low, high = metrics.stratified_interval(
            lambda x: x.mean((1, 2)), scores, num_resamples=400, seed=i, vectorized=True
        )
        covered += low <= means.mean() <= high
        # Within tasks, not across them: far apart tasks do not widen it.
        assert high - low < 1.5
    # A percentile interval of 36 samples is a little narrow: 0.95 − 0.03 ± 3 σ.
    assert 0.88 < covered / 400 < 0.97


def test_runs_that_broke_are_the_lowest_scores_of_an_interval():
    scores = np.array([[1.0, 2.0, 3.0, -np.inf]])
    low, high = metrics.stratified_interval(
        lambda x: metrics.interquartile_mean(x[:, 0]), scores, vectorized=True
    )
    assert low == -np.inf and 2.0 < high <= 3.0
    one, many = (
        metrics.stratified_interval(
            metrics.probability_of_improvement, X, Y, num_resamples=200, seed=seed
        )
        for seed in (0, 0)
    )
    assert one == many
    assert one[0] <= 1 / 3 <= one[1]


INTERVAL = {"statistic": np.mean, "scores": X}


def stratified_interval(statistic, scores, **settings):
    return metrics.stratified_interval(statistic, scores, **settings)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            stratified_interval,
            {**INTERVAL, "statistic": X},
            "statistic must be a function of",
        ),
        (
            stratified_interval,
            {**INTERVAL, "scores": "x"},
            "scores must be an array of",
        ),
        (
            stratified_interval,
            {**INTERVAL, "scores": X * 1j},
            "must be an array of real",
        ),
        (
            stratified_interval,
            {**INTERVAL, "confidence": "x"},
            r"nce must be in \(0, 1",
        ),
        (stratified_interval, {**INTERVAL, "num_resamples": 0}, "resamples must be at"),
        (stratified_interval, {**INTERVAL, "seed": None}, "seed must be an integer"),
        (stratified_interval, {**INTERVAL, "vectorized": 1}, "vectorized must be True"),
        (
            stratified_interval,
            {**INTERVAL, "statistic": lambda x: None},
            "what statistic returns must be an array of real numbers",
        ),
        (
            stratified_interval,
            {"statistic": lambda x: x[0], "scores": X, "vectorized": True},
            r"one value for each of 2000 resamples, returned shape \(2, 4\)",
        ),
        (
            metrics.bootstrap_interval,
            {"scores": 3.0},
            "scores must be an array of real",
        ),
        (
            metrics.bootstrap_interval,
            {"scores": X, "seed": -1},
            "seed must be at least",
        ),
        (
            metrics.bootstrap_interval,
            {"scores": X, "num_resamples": 1.5},
            "num_resampl",
        ),
        (
            metrics.interquartile_mean,
            {"scores": [[1, 2], [3]]},
            "scores must be an arr",
        ),
        (metrics.interquartile_mean, {"scores": []}, "scores must have entries along"),
        (
            metrics.interquartile_mean,
            {"scores": X, "axis": 2},
            "axis must be at most 1",
        ),
        (metrics.mean_interval, {"scores": X, "axis": None}, "axis must be an integer"),
        (metrics.mean_interval, {"scores": {}}, "scores must be an array of real"),
        (
            metrics.probability_of_improvement,
            {"scores": X, "other_scores": None},
            "other_scores must be an array of real numbers, got None",
        ),
        (
            metrics.performance_profile,
            {"scores": X, "thresholds": [[0.0]]},
            r"thresholds must be \[K\], got shape \(1, 1\)",
        ),
        (
            metrics.windowed_episode_returns,
            {"metrics": X, "num_windows": 2},
            "metrics must be a Metrics, such as rljax.train returns",
        ),
        (
            metrics.windowed_episode_returns,
            {"metrics": episodes([[1]], [[1]]), "num_windows": "2"},
            "num_windows must be an integer",
        ),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(function, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        function(**arguments)


def test_numbers_of_every_kind_are_scores():
    for dtype in (int, float, np.float32, jnp.bfloat16):
        assert metrics.interquartile_mean(np.array([1, 2, 3, 5], dtype)) == 2.5
    assert metrics.interquartile_mean([1, 2, 3, 5]) == 2.5
    assert metrics.performance_profile(X, 1.5) == [0.5]
    with pytest.raises(ValueError, match="scores must be at least one array, got none"):
        metrics.stratified_interval(np.mean)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.ones(3), r"got shape \(3,\). For a single task, add its axis"),
        (np.ones((2, 0)), r"got shape \(2, 0\)"),
        (np.full((1, 2), np.nan), "without NaN, got NaN"),
    ],
)
def test_scores_of_another_shape_are_refused(scores, message):
    for function in (
        lambda x: metrics.performance_profile(x, [0.0]),
        lambda x: metrics.probability_of_improvement(x, X),
        lambda x: metrics.stratified_interval(np.mean, x),
    ):
        with pytest.raises(ValueError, match=message):
            function(scores)
    with pytest.raises(ValueError, match="same tasks, got 2 and 1 of them"):
        metrics.probability_of_improvement(X, Y[:1])
    with pytest.raises(ValueError, match="confidence must be in"):
        metrics.stratified_interval(np.mean, X, confidence=1.0)
