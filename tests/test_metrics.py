"""Statistics over seeds, and the picture they make."""

import numpy as np
import pytest

from rljax import metrics, plotting
from rljax.train import Metrics


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


def test_learning_curve_with_gaps_is_drawn(tmp_path):
    data = episodes([[0, 3, 0, 0], [0, 0, 0, 2]], [[0, 90, 0, 0], [0, 0, 0, 8]])
    path = tmp_path / "curve.png"
    plotting.save_learning_curve(path, data, steps_per_update=10, title="test")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
