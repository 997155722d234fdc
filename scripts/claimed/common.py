"""What a claim, its measurement and its verdict are."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

HOLDS, FAILS, OPEN = "holds", "does not", "not settled"


class Row(NamedTuple):
    """What was measured in one case, with its verdict."""

    case: str
    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    num: int
    """Seeds, maps or bandits, whatever was drawn independently."""
    verdict: str


class Claim(NamedTuple):
    """A claim, how it is put to the test, and the rule of the verdict."""

    name: str
    text: str
    statistic: str
    """What is measured, with its unit."""
    rule: str
    """When the claim holds."""
    measure: Callable[..., list[Row]]
    """A function of `quick`: whether a fraction of the seeds and cases will do. What
    else it takes plants a counter-example."""


def judge(low: Any, high: Any, threshold: float) -> str:
    """The verdict: the whole interval must be above the threshold, or below it."""
    if low > threshold:
        return HOLDS
    return FAILS if high < threshold else OPEN


def share_of(case: str, samples: Any, threshold: float) -> Row:
    """A row of the mean of independent samples [N] in [0, 1], judged by a threshold.

    The interval is Wilson's, as if each sample were 0 or 1. No other samples vary as
    much, and it has a width even where all of them are alike.
    """
    samples = np.asarray(samples, float)
    low, high = wilson(samples.mean(), len(samples))
    verdict = judge(low, high, threshold)
    return Row(case, float(samples.mean()), low, high, len(samples), verdict)


def shares_of(case: str, first: Any, second: Any, threshold: float = 0.0) -> Row:
    """A row of the share of `first` [N] less that of `second` [N], bool.

    Source: Newcombe (1998), Interval Estimation for the Difference Between Independent
      Proportions, method 10.
    """
    (p, q), number = (np.mean(first), np.mean(second)), len(first)
    (p_low, p_high), (q_low, q_high) = wilson(p, number), wilson(q, number)
    low = float(p - q - np.hypot(p - p_low, q_high - q))
    high = float(p - q + np.hypot(p_high - p, q - q_low))
    return Row(case, float(p - q), low, high, number, judge(low, high, threshold))


def wilson(share: float, number: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z = stats.norm.ppf(0.975)
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    variance = share * (1 - share) / number + z**2 / (4 * number**2)
    half = z * np.sqrt(variance) / (1 + z**2 / number)
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def difference_of(case: str, first: Any, second: Any, threshold: float = 0.0) -> Row:
    """A row of mean(first) − mean(second), samples [N] each, by Welch's t-test.

    By hand, as SciPy warns of samples that are all alike.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    parts = np.array([x.var(ddof=1) / len(x) for x in (first, second)])
    value, half = float(first.mean() - second.mean()), 0.0
    if parts.any():
        sizes = np.array([len(first), len(second)])
        degrees = parts.sum() ** 2 / (parts**2 / (sizes - 1)).sum()
        half = float(stats.t.ppf(0.975, degrees) * np.sqrt(parts.sum()))
    low, high = value - half, value + half
    return Row(case, value, low, high, len(first), judge(low, high, threshold))


def overall(rows: Sequence[Row]) -> str:
    """One verdict for all cases: "depends" where they differ."""
    verdicts = {row.verdict for row in rows}
    return verdicts.pop() if len(verdicts) == 1 else "depends"
