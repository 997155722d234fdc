"""Reports on a running sweep, and who reads them: files, a progress bar, trackers.

A callback is any function of a `Report`; a sweep calls it on the host after each chunk
of updates. With several processes, only the first one calls.
"""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rljax import metrics as statistics
from rljax.faults import Fault
from rljax.settings import label, text
from rljax.train import Metrics

RUN_COLUMNS = (
    "seed",
    "update",
    "steps",
    "num_episodes",
    "episode_return",
    "episode_length",
)
"""Of every row, whatever the settings and metrics."""


class Report(NamedTuple):
    """What happened since the last report; the first one after a resume, all before."""

    settings: tuple[dict[str, Any], ...]
    metrics: tuple[Metrics, ...]
    """Setting by setting, NumPy leaves [num_seeds, n]: of updates first_update + 1 …
    first_update + n."""
    steps_per_update: tuple[int, ...]
    """Setting by setting, environment steps of one seed."""
    first_update: int
    """Updates done before."""
    num_updates: int
    """Updates done now."""
    total_updates: int
    """Updates to be done in all."""
    steps_per_second: float
    """Environment steps of all runs in this chunk, by its wall-clock time; NaN in the
    report of what was done before a resume."""
    faults: tuple[Fault, ...]
    """All so far."""
    resumed: bool = False
    """Whether the sweep was told to resume, even if there was nothing to go on from."""

    def columns(self) -> list[str]:
        """The names in `rows`: of settings, of the run and the time, of metrics."""
        columns = (*self._setting_names(), *RUN_COLUMNS)
        return [*columns, *self._metric_columns().values()]

    def _setting_names(self) -> dict[str, None]:
        return dict.fromkeys(name for s in self.settings for name in s)

    def _metric_columns(self) -> dict[str, str]:
        """By metric; one that is named as a setting is told from it by a suffix."""
        settings = self._setting_names()
        names = sorted({name for m in self.metrics for name in m.agent})
        return {n: f"{n}_metric" if n in settings else n for n in names}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dictionary per update, setting and seed, in this order.

        Values are None where no episode ended, of a frozen run, and where NaN.
        """
        columns = self._metric_columns()
        for i in range(self.num_updates - self.first_update):
            update = self.first_update + i + 1
            for setting, metrics, steps in zip(
                self.settings, self.metrics, self.steps_per_update, strict=True
            ):
                values = {name: text(value) for name, value in setting.items()}
                for seed in range(len(metrics.num_episodes)):
                    yield {
                        **values,
                        "seed": seed,
                        "update": update,
                        "steps": update * steps,
                        **_row(metrics, columns, (seed, i)),
                    }


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


class _RowWriter:
    """Writes each row of each report as a line of a text file."""

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False):
        """Writes nothing before the first report.

        Args:
          path: file to write.
          append: go on with the file that a sweep has left which is now resumed. As
            the first report then holds all that was done, the file is written anew
            from it: rows of updates that are about to be done again go, rows that were
            lost come back. A sweep that isn't resumed is refused a file with content.

        Raises:
          FileExistsError: the file is there and `append` is False.
        """
        self.path = Path(path)
        self._append = append
        self._started = False
        if not append:
            self._refuse_existing()

    def _refuse_existing(self) -> None:
        if self.path.exists():
            raise FileExistsError(
                f"{self.path} is there already. Choose another file, or append=True to "
                "go on with it."
            )

    def __call__(self, report: Report) -> None:
        """Writes the report's rows.

        Raises:
          ValueError: the file to go on with is of something else, or the writer of
            another sweep. Nothing was written then.
        """
        columns = report.columns()
        lines = "".join(self._format(row, columns) for row in report.rows())
        if report.first_update > 0:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(lines)
            return
        if self._started:
            raise ValueError(
                f"the writer of {self.path} has served a sweep already; make a new one."
            )
        self._started = True
        header = self._header(columns)
        if not self._append:
            self._refuse_existing()
        elif self.path.exists():
            old = self.path.read_bytes()
            if old and not self._is_ours(old, header, columns):
                raise ValueError(
                    f"{self.path} holds other columns than {', '.join(columns)}. It is "
                    "left as it is; choose another file."
                )
            if old and not report.resumed:
                raise ValueError(
                    f"{self.path} holds what another sweep wrote, and this one isn't "
                    "resumed (resume=True), which append=True is for. It is left as it "
                    "is; choose another file."
                )
        new = self.path.with_name(f"{self.path.name}.new")
        new.write_text(header + lines, encoding="utf-8", newline="")
        os.replace(new, self.path)

    def _header(self, columns: list[str]) -> str:
        raise NotImplementedError

    def _format(self, row: dict[str, Any], columns: list[str]) -> str:
        raise NotImplementedError

    def _is_ours(self, content: bytes, header: str, columns: list[str]) -> bool:
        raise NotImplementedError


class CSVWriter(_RowWriter):
    """Comma-separated values: a line per update, setting and seed, empty for None."""

    def _header(self, columns):
        return _csv_line(columns)

    def _format(self, row, columns):
        return _csv_line([row.get(name) for name in columns])

    def _is_ours(self, content, header, columns):
        # As much of the header as a killed process may have written.
        start = header.encode()
        return content.startswith(start) or start.startswith(content)


class JSONLinesWriter(_RowWriter):
    """JSON lines: an object per update, setting and seed; null for None, NaN and ∞."""

    def _header(self, columns):
        return ""

    def _format(self, row, columns):
        values = {name: row.get(name) for name in columns}
        return json.dumps({k: _finite(v) for k, v in values.items()}) + "\n"

    def _is_ours(self, content, header, columns):
        try:
            first = json.loads(content.split(b"\n")[0])
        except ValueError:
            return b"\n" not in content and content.startswith(b"{")
        return isinstance(first, dict) and list(first) == columns


def _finite(value: Any) -> Any:
    """What JSON can say of a value."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _csv_line(values: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


class _Tracker(contextlib.AbstractContextManager):
    """What TensorBoard and Weights & Biases share: a run of theirs per run of ours."""

    def __init__(self):
        self._runs: dict[tuple[int, int], Any] = {}

    def __call__(self, report: Report) -> None:
        """Logs the report's rows, each to its own run."""
        settings = list(report.settings)
        num_seeds = len(report.metrics[0].num_episodes)
        for index, row in enumerate(report.rows()):
            at = index // num_seeds % len(settings), row["seed"]
            if at not in self._runs:
                self._runs[at] = self._open(settings[at[0]], *at, report)
            values = {
                name: value
                for name, value in row.items()
                if isinstance(value, int | float) and name not in ("seed", "update")
            }
            self._log(self._runs[at], values, row["update"])

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends all runs."""
        while self._runs:
            self._close(self._runs.popitem()[1])

    def _open(self, setting: Any, index: int, seed: int, report: Report) -> Any:
        raise NotImplementedError

    def _log(self, run: Any, values: dict[str, Any], update: int) -> None:
        raise NotImplementedError

    def _close(self, run: Any) -> None:
        raise NotImplementedError


class TensorBoardWriter(_Tracker):
    """TensorBoard event files, folder/<setting>/seed_<j>, over updates.

    Needs tensorboardX. Every run has a file of its own: for tens of runs, not
    thousands.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Checks that tensorboardX is there.

        Raises:
          ImportError: it is not.
        """
        super().__init__()
        try:
            import tensorboardX
        except ImportError as error:
            raise ImportError(
                "TensorBoardWriter needs tensorboardX: pip install tensorboardX."
            ) from error
        self._module = tensorboardX
        self._folder = Path(folder)

    def _open(self, setting, index, seed, report):
        name = label(setting).replace("/", "_")
        return self._module.SummaryWriter(
            str(self._folder / name / f"seed_{seed}"),
            purge_step=1,  # what was logged before a resume is logged again
        )

    def _log(self, run, values, update):
        for name, value in values.items():
            run.add_scalar(name, value, update)

    def _close(self, run):
        run.close()


class WandBWriter(_Tracker):
    """Weights & Biases: a run per setting and seed, grouped by setting, over updates.

    Needs wandb, whose own settings apply (WANDB_MODE=offline …). For tens of runs, not
    thousands. After a resume they are logged anew, from the first update on.
    """

    def __init__(self, project: str, **init: Any):
        """Checks that wandb is there.

        Args:
          project: name of the project.
          **init: further arguments of wandb.init.

        Raises:
          ImportError: wandb is not installed.
        """
        super().__init__()
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("WandBWriter needs wandb: pip install wandb.") from error
        self._module = wandb
        self._init = {"project": project, **init}

    def _open(self, setting, index, seed, report):
        config = {name: text(value) for name, value in setting.items()}
        return self._module.init(
            group=label(setting),
            name=f"{label(setting)} seed {seed}",
            config={**config, "seed": seed},
            reinit="create_new",
            **self._init,
        )

    def _log(self, run, values, update):
        run.log(values, step=update)

    def _close(self, run):
        run.finish()


class ProgressBar(contextlib.AbstractContextManager):
    """A bar with the speed, the median return and the time left. Needs rich.

    The median is over all runs. Inside `with`, it says "compiling …" until the first
    report.
    """

    def __init__(self, console: Any = None):
        """Shows nothing yet.

        Args:
          console: a rich.console.Console, by default a new one.
        """
        import rich.console
        import rich.progress

        console = console or rich.console.Console()
        self._waiting = console.status("compiling …")
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(bar_width=16),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[note]}"),
            rich.progress.TimeRemainingColumn(compact=True),
            rich.progress.TextColumn("left"),
            console=console,
        )
        self._task: Any = None

    def __call__(self, report: Report) -> None:
        """Moves the bar."""
        note = _median_return(report)
        if not np.isnan(report.steps_per_second):
            note = f"{report.steps_per_second:,.0f} steps/s · {note}"
        if report.faults:
            note += f" · {len(report.faults)} broken"
        if self._task is None:
            self._waiting.stop()
            self._bar.start()
            self._task = self._bar.add_task(
                "training",
                total=report.total_updates,
                completed=report.num_updates,
                note=note,
            )
        self._bar.update(self._task, completed=report.num_updates, note=note)

    def __enter__(self) -> "ProgressBar":
        self._waiting.start()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._waiting.stop()
        self._bar.stop()


def _median_return(report: Report) -> str:
    returns = np.concatenate(
        [statistics.windowed_episode_returns(m, 1)[1][:, 0] for m in report.metrics]
    )
    seen = returns[~np.isnan(returns)]
    return f"median return {np.median(seen):.1f}" if seen.size else "no episode ended"
