"""`Report`: what a running sweep tells its callbacks, as arrays and as rows.

A callback is any function of a `Report`; a sweep calls it on the host after each chunk
of updates. With several processes, only the first one calls.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rljax.experiment.faults import Fault
from rljax.experiment.settings import text
from rljax.training import Metrics

RUN_COLUMNS = (
    "seed",
    "update",
    "steps",
    "num_episodes",
    "episode_return",
    "episode_length",
)
"""Columns of every row, whatever the settings and metrics."""


class Report(NamedTuple):
    """What happened since the last report.

    The first report after a resume holds everything that was done before it.
    """

    settings: tuple[dict[str, Any], ...]
    metrics: tuple[Metrics, ...]
    """Setting by setting, NumPy leaves [num_seeds, n]: of updates first_update + 1 …
    first_update + n, or where steps are equal of those that `updates_at` says."""
    steps_per_update: tuple[int, ...]
    """Setting by setting, environment steps of one seed."""
    first_update: int
    """Updates that earlier reports covered."""
    num_updates: int
    """Updates done so far, this report's included."""
    total_updates: int
    """Updates to be done in all."""
    steps_per_second: float
    """Environment steps of all runs in this chunk, divided by its wall-clock time; NaN
    in the report of what was done before a resume."""
    faults: tuple[Fault, ...]
    """All faults so far."""
    resumed: bool = False
    """Whether the sweep was told to resume, even if there was nothing to go on from."""
    equal_steps: bool = False
    """Whether all settings do as many steps instead of as many updates. The three
    numbers of updates are then of the setting with the shortest ones."""

    def updates_at(self, setting: int, number: int) -> int:
        """The updates that a setting has done when the one with the shortest updates
        has done `number`."""
        if not self.equal_steps:
            return number
        return updates_at(number, self.steps_per_update, setting)

    def columns(self) -> list[str]:
        """The columns of `rows`: the settings, then RUN_COLUMNS, then the metrics."""
        columns = (*self._setting_names(), *RUN_COLUMNS)
        return [*columns, *self._metric_columns().values()]

    def _setting_names(self) -> dict[str, None]:
        return dict.fromkeys(name for s in self.settings for name in s)

    def _metric_columns(self) -> dict[str, str]:
        """Each metric's column; one with the name of a setting has a suffix."""
        settings = self._setting_names()
        names = sorted({name for m in self.metrics for name in m.agent})
        return {n: f"{n}_metric" if n in settings else n for n in names}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dictionary per update, setting and seed, in this order.

        The episodes' return and length are None where no episode ended, and a metric is
        None where it is NaN. Both hold for a frozen run.
        """
        return (row for _, row in self.indexed_rows())

    def indexed_rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows, each with the index of its setting."""
        columns = self._metric_columns()
        count = len(self.settings)
        firsts = [self.updates_at(i, self.first_update) for i in range(count)]
        for number in range(self.first_update + 1, self.num_updates + 1):
            for i, setting in enumerate(self.settings):
                update = self.updates_at(i, number)
                if update == self.updates_at(i, number - 1):
                    continue
                values = {name: text(value) for name, value in setting.items()}
                for seed in range(len(self.metrics[i].num_episodes)):
                    at = seed, update - 1 - firsts[i]
                    yield (
                        i,
                        {
                            **values,
                            "seed": seed,
                            "update": update,
                            "steps": update * self.steps_per_update[i],
                            **_row(self.metrics[i], columns, at),
                        },
                    )


def updates_at(number: int, steps_per_update: Sequence[int], index: int) -> int:
    """How many updates of one length come nearest to the steps of so many others.

    Args:
      number: updates of the shortest length.
      steps_per_update: all lengths.
      index: of the one that is asked for.
    """
    steps, own = number * min(steps_per_update), steps_per_update[index]
    return (2 * steps + own) // (2 * own)


def _row(
    metrics: Metrics, columns: dict[str, str], at: tuple[int, int]
) -> dict[str, Any]:
    count = int(metrics.num_episodes[at])
    row: dict[str, Any] = {"num_episodes": count}
    for name in ("episode_return", "episode_length"):
        total = float(getattr(metrics, f"{name}_sum")[at])
        row[name] = total / count if count else None
    for name, column in columns.items():
        value = float(metrics.agent[name][at]) if name in metrics.agent else np.nan
        row[column] = None if np.isnan(value) else value
    return row
