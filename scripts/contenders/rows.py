"""From what workers answered to medians, ratios and whether targets are reached."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from contenders.host import Result

Check = Callable[[str, dict[str, Any]], None]
"""Of a contender's name and a run's outcome; raises ValueError if work is missing."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A ratio that is promised or of interest."""

    contender: str
    against: str
    least: float | None = None
    most: float | None = None
    of: str = "run"
    """"run": work per second; "time": of a run, however much work it needed; "compile":
    time to trace and compile; "memory": its peak; all of them the more the better for
    the contender. "time per unit": of work, 1 if equally long and more if longer."""


@dataclasses.dataclass
class Comparison:
    """A target with the ratio that was found, None where either is missing."""

    target: Target
    ratio: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the target is, None where there is none to reach."""
        least, most = self.target.least, self.target.most
        if self.ratio is None or (least is None and most is None):
            return None
        return (least is None or self.ratio >= least) and (
            most is None or self.ratio <= most
        )


@dataclasses.dataclass
class Row:
    """One contender in one case."""

    suite: str
    case: str
    contender: str
    unit: str
    """What `work` counts."""
    seconds: float | None = None
    """Median over the runs, of which `seconds_range` is the lowest and highest."""
    seconds_range: tuple[float, float] | None = None
    work: float | None = None
    trace_seconds: float | None = None
    compile_seconds: float | None = None
    peak_mib: float | None = None
    platform: str | None = None
    """Where JAX ran, if it did."""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    checks: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """What came of each run."""
    failed: str | None = None
    """Why this row has no figures."""
    comparisons: list[Comparison] = dataclasses.field(default_factory=list)

    @property
    def rate(self) -> float | None:
        """Work per second."""
        return self.work / self.seconds if self.work and self.seconds else None

    @property
    def build_seconds(self) -> float | None:
        """Tracing and compilation."""
        if self.trace_seconds is None or self.compile_seconds is None:
            return None
        return self.trace_seconds + self.compile_seconds

    def measure(self, of: str) -> float | None:
        """What is compared, the less the better."""
        if self.failed:
            return None
        return {
            "run": 1 / self.rate if self.rate else None,
            "time per unit": 1 / self.rate if self.rate else None,
            "time": self.seconds,
            "compile": self.build_seconds,
            "memory": self.peak_mib,
        }[of]

    def as_json(self) -> dict[str, Any]:
        """All of it, by name."""
        comparisons = [
            {**dataclasses.asdict(comparison), "reached": comparison.reached}
            for comparison in self.comparisons
        ]
        content = dataclasses.asdict(self) | {"rate": self.rate}
        return content | {"comparisons": comparisons}


def make_rows(
    suite: str,
    case: str,
    unit: str,
    results: dict[str, Result],
    check: Check,
    targets: Sequence[Target] = (),
) -> list[Row]:
    """A row per contender; those whose work does not pass `check` have no figures."""
    rows = {
        name: make_row(Row(suite, case, name, unit), result, check)
        for name, result in results.items()
    }
    for target in targets:
        if target.contender in rows:
            row, against = rows[target.contender], rows.get(target.against)
            platforms = {row.platform, against and against.platform} - {None}
            if against and len(platforms) > 1:
                against.failed = f"ran on a {against.platform}, not on a {row.platform}"
            row.comparisons.append(Comparison(target, ratio(row, against, target.of)))
    return list(rows.values())


def make_row(row: Row, result: Result, check: Check) -> Row:
    row.checks = [run["check"] for run in result.runs]
    row.failed = result.failed
    try:
        for outcome in row.checks:
            check(row.contender, outcome)
    except ValueError as error:
        row.failed = str(error)
    if row.failed or not result.runs:
        row.failed = row.failed or "never ran"
        return row
    seconds = [run["seconds"] for run in result.runs]
    row.seconds = statistics.median(seconds)
    row.seconds_range = (min(seconds), max(seconds))
    row.work = statistics.median(run["work"] for run in result.runs)
    row.peak_mib = result.peak_mib
    for name in ("trace_seconds", "compile_seconds"):
        found = [ready[name] for ready in result.ready if name in ready]
        setattr(row, name, statistics.median(found) if found else None)
    if result.ready:
        facts = dict(result.ready[-1])
        row.versions = facts.pop("versions", {})
        row.platform = facts.pop("platform", None)
        known = ("event", "trace_seconds", "compile_seconds")
        row.facts = {k: v for k, v in facts.items() if k not in known}
    return row


def ratio(row: Row, against: Row | None, of: str) -> float | None:
    """How many times as good as the other; for "time per unit" as long."""
    ours = row.measure(of)
    theirs = against.measure(of) if against else None
    if not ours or not theirs:
        return None
    return ours / theirs if of == "time per unit" else theirs / ours
