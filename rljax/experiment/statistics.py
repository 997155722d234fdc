"""Statistics over seeds, on the host.

The interquartile mean, its bootstrap interval, the probability of improvement and
performance profiles follow Agarwal et al. (2021), arXiv:2108.13264. SciPy does the
arithmetic where it can; it is imported only when it is needed.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rljax import checks
from rljax.training import Metrics


def interquartile_mean(scores: Any, axis: int = -1) -> Any:
    """Mean of the middle half: cuts a quarter of the scores, rounded down, at each end.

    Args:
      scores: floating array, one entry per seed along `axis`.
      axis: the axis to reduce.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    from scipy import stats

    scores, axis = _along("scores", scores, axis)
    return stats.trim_mean(scores, 0.25, axis=axis)


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
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    check_confidence(confidence)
    num_resamples = checks.integer("num_resamples", num_resamples, minimum=1)
    seed = checks.integer("seed", seed, minimum=0)
    from scipy import stats

    scores, _ = _along("scores", scores, -1)
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
      TypeError, ValueError: an argument is wrong, such as scores of another rank,
        without an entry or with NaN, or `statistic` returns no numbers; the message
        names it.
    """
    if not callable(statistic):
        raise TypeError(
            "statistic must be a function of scores, such as "
            f"probability_of_improvement, got {statistic!r}. It is the first argument: "
            "stratified_interval(statistic, scores)."
        )
    if not scores:
        raise ValueError("scores must be at least one array, got none.")
    check_confidence(confidence)
    num_resamples = checks.integer("num_resamples", num_resamples, minimum=1)
    seed = checks.integer("seed", seed, minimum=0)
    checks.boolean("vectorized", vectorized)
    arrays = [_scores("scores", x) for x in scores]
    rng = np.random.default_rng(seed)

    def resample(x):
        order = rng.integers(x.shape[1], size=(num_resamples, *x.shape))
        return np.take_along_axis(x[None], order, axis=2)

    resampled = [resample(x) for x in arrays]
    if vectorized:
        values = statistic(*resampled)
    else:
        values = [statistic(*one) for one in zip(*resampled, strict=True)]
    values = _numbers("what statistic returns", values)
    if len(values) != num_resamples:
        raise ValueError(
            "with vectorized=True, statistic must return one value for each of "
            f"{num_resamples} resamples, returned shape {values.shape}."
        )
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
      TypeError, ValueError: an argument is wrong, such as arrays of another rank,
        without an entry, with NaN or of other tasks; the message names it.
    """
    scores = _scores("scores", scores)
    other_scores = _scores("other_scores", other_scores)
    if len(scores) != len(other_scores):
        raise ValueError(
            "scores and other_scores must be of the same tasks, got "
            f"{len(scores)} and {len(other_scores)} of them."
        )
    above = scores[:, :, None] > other_scores[:, None, :]
    equal = scores[:, :, None] == other_scores[:, None, :]
    return float((above + equal / 2).mean((1, 2)).mean())


def seeds_to_detect(
    improvement: float, *, confidence: float = 0.95, power: float = 0.8
) -> int:
    """How many seeds of each of two agents tell them apart, if one is so much better.

        n = (z_{1−α/2} + z_{power})² / 6(p − ½)²,   α = 1 − confidence

    p = P(X > Y) + ½ P(X = Y) is the probability that a run of the better one beats a
    run of the other, see `probability_of_improvement`; for normal scores of the same
    standard deviation whose means are d of them apart, it is Φ(d/√2). With n seeds of
    each, Mann and Whitney's two-sided test, `scipy.stats.mannwhitneyu`, finds the
    difference with probability `power`, about, and one where there is none with
    probability α, at most.

    Args:
      improvement: p, in (½, 1].
      confidence: 1 − α, in (0, 1).
      power: in (0, 1).

    Returns:
      n, at least the seeds with which the test can reject at all.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Noether (1987), Sample Size Determination for Some Common Nonparametric
      Tests, JASA 82.
    """
    check_confidence(confidence)
    check_confidence(power, "power")
    is_number = _is_number(improvement)
    if not is_number or not 0.5 < improvement <= 1:
        raise (ValueError if is_number else TypeError)(
            f"improvement must be in (0.5, 1], such as 0.7, got {improvement!r}."
        )
    from scipy import special, stats

    z = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    num_seeds = math.ceil(z**2 / (6 * (improvement - 0.5) ** 2))
    # Of n and n scores, the two most extreme orders have this probability together.
    while 2 / special.comb(2 * num_seeds, num_seeds) > 1 - confidence:
        num_seeds += 1
    return num_seeds


def performance_profile(scores: Any, thresholds: Any) -> np.ndarray:
    """The fraction of runs that score above each threshold, averaged over tasks.

    Args:
      scores: [num_tasks, num_seeds].
      thresholds: [K].

    Returns:
      [K], in [0, 1]; it falls as the threshold rises.

    Raises:
      TypeError, ValueError: an argument is wrong, such as scores of another rank,
        without an entry or with NaN; the message names it.
    """
    if isinstance(thresholds, int | float):
        thresholds = [thresholds]
    thresholds = _numbers("thresholds", thresholds)
    if thresholds.ndim != 1:
        raise ValueError(f"thresholds must be [K], got shape {thresholds.shape}.")
    above = _scores("scores", scores)[:, :, None] > thresholds
    return above.mean(1).mean(0)


def _numbers(name: str, value: Any) -> np.ndarray:
    """`value` as an array with axes, or TypeError if it is none of real numbers."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.empty(())
    if str(array.dtype) == "bfloat16":  # NumPy's functions do not all know it
        array = array.astype(float)
    if not array.ndim or array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, got {value!r:.200}.")
    return array


def _along(name: str, value: Any, axis: Any) -> tuple[np.ndarray, int]:
    """The array and the axis along which it is reduced, which must have an entry."""
    array = _numbers(name, value)
    axis = checks.integer("axis", axis, minimum=-array.ndim, maximum=array.ndim - 1)
    if not array.shape[axis]:
        raise ValueError(
            f"{name} must have entries along axis {axis}, got shape {array.shape}."
        )
    return array, axis


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.floating)


def check_confidence(confidence: Any, name: str = "confidence") -> None:
    """Raises TypeError or ValueError unless `confidence` is a number in (0, 1)."""
    is_number = _is_number(confidence)
    if not is_number or not 0 < confidence < 1:
        raise (ValueError if is_number else TypeError)(
            f"{name} must be in (0, 1), such as 0.95, got {confidence!r}."
        )


def _scores(name: str, scores: Any) -> np.ndarray:
    array = _numbers(name, scores).astype(float)
    if array.ndim != 2 or 0 in array.shape or np.isnan(array).any():
        raise ValueError(
            f"{name} must be an array [num_tasks, num_seeds] without NaN, got "
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
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    check_confidence(confidence)
    from scipy import stats

    scores, axis = _along("scores", scores, axis)
    scores = scores.astype(float)
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
      TypeError, ValueError: an argument is wrong, such as leaves of another rank or
        without updates; the message names it.
    """
    checks.instance("metrics", metrics, Metrics, "rljax.train returns")
    num_windows = checks.integer("num_windows", num_windows, minimum=1)
    counts = np.asarray(metrics.num_episodes)
    if counts.ndim != 2 or counts.shape[1] < 1:
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
