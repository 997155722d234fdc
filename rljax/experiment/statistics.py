"""Statistics over seeds, on the host.

The interquartile mean, its bootstrap interval, the probability of improvement and
performance profiles follow Agarwal et al. (2021), arXiv:2108.13264. SciPy does the
arithmetic where it can; it is imported only when it is needed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from rljax.training import Metrics


def interquartile_mean(scores: Any, axis: int = -1) -> Any:
    """Mean of the middle half: cuts a quarter of the scores, rounded down, at each end.

    Args:
      scores: floating array, one entry per seed along `axis`.
      axis: the axis to reduce.
    """
    from scipy import stats

    return stats.trim_mean(np.asarray(scores), 0.25, axis=axis)


def bootstrap_interval(
    scores: Any, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> tuple[Any, Any]:
    """Percentile bootstrap interval of the interquartile mean over seeds.

    Args:
      scores: [..., num_seeds] floating.
      confidence: coverage aimed at, in (0, 1).
      num_resamples: bootstrap resamples of the seeds.
      seed: seed of the resampling.

    Returns:
      (low, high), each [...]. With one seed both are its score, as a single score gives
      no interval.

    Raises:
      ValueError: `confidence` is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}.")
    from scipy import stats

    scores = np.asarray(scores)
    if scores.shape[-1] == 1:
        return scores[..., 0], scores[..., 0]
    result = stats.bootstrap(
        (scores,),
        interquartile_mean,
        n_resamples=num_resamples,
        confidence_level=confidence,
        method="percentile",
        axis=-1,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return result.confidence_interval.low, result.confidence_interval.high


def stratified_interval(
    statistic: Callable[..., Any],
    *scores: Any,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
    vectorized: bool = False,
) -> tuple[Any, Any]:
    """Percentile bootstrap interval that resamples the seeds within each task.

    Tasks are not resampled: they are the whole benchmark, not a random sample of tasks.
    Scores of −∞, for runs that diverged, are allowed: each end of the interval is one
    of the resampled statistics, never a value interpolated between two.

    Args:
      statistic: function of arrays such as `scores` to a scalar or array, for example
        `lambda x: interquartile_mean(x.ravel())` or `probability_of_improvement`.
      *scores: one array [num_tasks, num_seeds] for each argument of `statistic`,
        resampled independently.
      confidence: coverage aimed at, in (0, 1).
      num_resamples: bootstrap resamples.
      seed: seed of the resampling.
      vectorized: whether `statistic` takes all resamples at once, [num_resamples,
        num_tasks, num_seeds], and returns [num_resamples, …].

    Returns:
      (low, high), of the shape that `statistic` returns for one resample.

    Raises:
      ValueError: `confidence` is not in (0, 1), or scores have another rank, no entry
        or NaN.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}.")
    arrays = [_scores(x) for x in scores]
    rng = np.random.default_rng(seed)

    def resample(x):
        order = rng.integers(x.shape[1], size=(num_resamples, *x.shape))
        return np.take_along_axis(x[None], order, axis=2)

    resampled = [resample(x) for x in arrays]
    if vectorized:
        values = np.asarray(statistic(*resampled))
    else:
        values = np.array([statistic(*one) for one in zip(*resampled, strict=True)])
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = np.quantile(values, tails, axis=0, method="inverted_cdf")
    return low, high


def probability_of_improvement(scores: Any, other_scores: Any) -> float:
    """The probability that a run of one algorithm beats a run of another.

    It is the mean over tasks of P(X > Y) + ½ P(X = Y), with X and Y drawn from the two
    algorithms' runs: Mann and Whitney's U divided by the number of pairs.

    Args:
      scores: [num_tasks, num_seeds].
      other_scores: [num_tasks, any number of seeds].

    Raises:
      ValueError: the arrays have another rank, no entry or NaN, or they differ in their
        number of tasks.
    """
    scores, other_scores = _scores(scores), _scores(other_scores)
    if len(scores) != len(other_scores):
        raise ValueError(
            "scores and other_scores must be of the same tasks, got "
            f"{len(scores)} and {len(other_scores)} of them."
        )
    above = scores[:, :, None] > other_scores[:, None, :]
    equal = scores[:, :, None] == other_scores[:, None, :]
    return float((above + equal / 2).mean((1, 2)).mean())


def performance_profile(scores: Any, thresholds: Any) -> np.ndarray:
    """The fraction of runs that score above each threshold, averaged over tasks.

    Args:
      scores: [num_tasks, num_seeds].
      thresholds: [K].

    Returns:
      [K], in [0, 1]; it falls as the threshold rises.

    Raises:
      ValueError: the scores have another rank, no entry or NaN.
    """
    above = _scores(scores)[:, :, None] > np.asarray(thresholds)
    return above.mean(1).mean(0)


def _scores(scores: Any) -> np.ndarray:
    array = np.asarray(scores, float)
    if array.ndim != 2 or 0 in array.shape or np.isnan(array).any():
        raise ValueError(
            "scores must be an array [num_tasks, num_seeds] without NaN, got "
            f"{'NaN' if np.isnan(array).any() else f'shape {array.shape}'}. For a "
            "single task, add its axis: scores[None]."
        )
    return array


def mean_interval(
    scores: Any, *, confidence: float = 0.95, axis: int = 0
) -> tuple[Any, Any, Any]:
    """Mean with Student's t interval, for many independent samples.

    Args:
      scores: floating array, independent along `axis`.
      confidence: coverage aimed at, in (0, 1).
      axis: the axis to reduce.

    Returns:
      (mean, low, high). With one sample all three are its score.

    Raises:
      ValueError: `confidence` is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}.")
    from scipy import stats

    scores = np.asarray(scores, float)
    count = scores.shape[axis]
    mean = scores.mean(axis)
    if count == 1:
        return mean, mean, mean
    quantile = stats.t.ppf((1 + confidence) / 2, count - 1)
    half = quantile * stats.sem(scores, axis=axis)
    return mean, mean - half, mean + half


def windowed_episode_returns(
    metrics: Metrics, num_windows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean return of all episodes that ended in each window of updates.

    Args:
      metrics: leaves [num_seeds, num_updates].
      num_windows: largest number of windows, W; their lengths differ only by rounding.

    Returns:
      Updates done at the end of each window, [W] integers, and the means,
      [num_seeds, W], NaN where no episode ended.

    Raises:
      ValueError: the leaves have another rank, or there is no update or no window.
    """
    counts = np.asarray(metrics.num_episodes)
    if counts.ndim != 2 or counts.shape[1] < 1 or num_windows < 1:
        raise ValueError(
            "metrics must have leaves [num_seeds, num_updates], with updates, and "
            f"num_windows must be at least 1, got shape {counts.shape} and "
            f"{num_windows}. For a single seed, add its axis: "
            "jax.tree.map(lambda x: x[None], metrics)."
        )
    totals = np.asarray(metrics.episode_return_sum)
    num_updates = counts.shape[1]
    edges = np.linspace(0, num_updates, min(num_windows, num_updates) + 1).astype(int)
    window_counts = np.add.reduceat(counts, edges[:-1], axis=1)
    window_totals = np.add.reduceat(totals, edges[:-1], axis=1)
    means = np.where(
        window_counts > 0, window_totals / np.maximum(window_counts, 1), np.nan
    )
    return edges[1:], means
