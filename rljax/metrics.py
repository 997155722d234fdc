"""Statistics over seeds, on the host.

The interquartile mean and its bootstrap interval after Agarwal et al. (2021),
arXiv:2108.13264; the arithmetic is SciPy's, imported when it is needed.
"""

from typing import Any

import numpy as np

from rljax.train import Metrics


def interquartile_mean(scores: Any, axis: int = -1) -> Any:
    """Mean of the middle half: a quarter of the scores, rounded down, goes at each end.

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
      seed: of the resampling.

    Returns:
      (low, high), each [...]. With one seed both are its score: no interval can be
      had from it.

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


def mean_interval(
    scores: Any, *, confidence: float = 0.95, axis: int = 0
) -> tuple[Any, Any, Any]:
    """Mean with Student's t interval, for many independent samples.

    Args:
      scores: floating array, independent along `axis`.
      confidence: coverage aimed at, in (0, 1).
      axis: the axis to reduce.

    Returns:
      (mean, low, high). With one sample all are its score: no interval can be had.

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
      num_windows: at most; windows are equally long but for rounding.

    Returns:
      Updates done at the end of each window, [W] integers, and the means,
      [num_seeds, W], NaN where no episode ended.

    Raises:
      ValueError: the leaves have another rank, or there is nothing to average.
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
