"""Callbacks of a sweep: writers of files, trackers and a progress bar.

Each is called with a `reports.Report`.
"""

import contextlib
import csv
import io
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from rljax import checks
from rljax.experiment import statistics
from rljax.experiment.reports import Report
from rljax.experiment.settings import label, text


class _RowWriter:
    """Writes each row of each report as a line of a text file."""

    def __init__(self, path: str | os.PathLike[str]):
        """Writes nothing before the first report.

        Args:
          path: file to write. Of a sweep that is resumed it may be there: the first
            report holds all that was done before, and the file is written anew from it.
            Rows of updates that will be done again are dropped, and rows that were lost
            come back.
        """
        self.path = checks.path("path", path).resolve()  # to write where a link points
        self._left: tuple[int, int, int] | None = None  # where, and of which size

    def prepare(self, resumed: bool) -> None:
        """Called before a sweep compiles anything.

        Raises:
          FileExistsError: the file exists, and the sweep isn't resumed.
        """
        if self.path.exists() and not resumed:
            raise FileExistsError(
                f"{self.path} is there already. Choose another file, or go on with the "
                "sweep that wrote it: resume=True."
            )

    def __call__(self, report: Report) -> None:
        """Writes the report's rows.

        Raises:
          FileExistsError: the file exists, and the sweep isn't resumed.
          ValueError: the file has other rows than this sweep, this writer has served
            another sweep, or it was not called with the sweep's first report. Nothing
            is written then.
          OSError: the file can't be written, or it is not as this writer left it after
            the report before. Nothing is written in the second case.
        """
        checks.instance("report", report, Report, "a sweep passes to callbacks")
        columns = report.columns()
        lines = "".join(self._format(row, columns) for row in report.rows())
        if report.first_update == 0:
            self._start(report, self._header(columns) + lines)
        elif self._left is not None:
            self._go_on(self._left, lines)
        else:
            raise ValueError(
                f"the writer of {self.path} must be called with every report, from the "
                f"first one on; this one begins after update {report.first_update}."
            )

    def _start(self, report: Report, lines: str) -> None:
        if self._left is not None:
            raise ValueError(
                f"the writer of {self.path} has served a sweep already; make a new one."
            )
        self.prepare(report.resumed)
        new, mode, content = self.path, "xb", lines.encode()
        if self.path.exists():
            # The sweep that is resumed has written either less, if it was killed in the
            # middle, or more, of updates that are now done again.
            old = self.path.read_bytes()
            common = min(len(old), len(content))
            if old[:common] != content[:common]:
                line = _first_difference(old, content)
                raise ValueError(
                    f"{self.path} has other rows than the sweep that is resumed, from "
                    f"line {line} on. It is left as it is; choose another file."
                )
            new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
            mode = "wb"
        try:
            with open(new, mode) as file:
                file.write(content)
            self._left = _identity(new.stat())
            os.replace(new, self.path)
        except OSError as error:
            if new != self.path:
                new.unlink(missing_ok=True)
            raise _of_file(error, self.path) from error

    def _go_on(self, left: tuple[int, int, int], lines: str) -> None:
        remedy = (
            "See that no other process writes there, and resume from a checkpoint: "
            "that writes the file anew."
        )
        if not self.path.exists():
            raise FileNotFoundError(
                f"{self.path} was removed while the sweep was writing it. {remedy}"
            )
        with open(self.path, "r+b") as file:
            found = _identity(os.fstat(file.fileno()))
            if found != left:
                what = "changed" if found[:2] == left[:2] else "replaced"
                raise OSError(
                    f"{self.path} was {what} while the sweep was writing it: it has "
                    f"{found[2]} bytes, {left[2]} were written. {remedy}"
                )
            try:
                file.seek(0, os.SEEK_END)
                file.write(lines.encode())
                file.flush()
            except OSError as error:
                raise _of_file(error, self.path) from error
        self._left = (*left[:2], left[2] + len(lines.encode()))

    def _header(self, columns: list[str]) -> str:
        raise NotImplementedError

    def _format(self, row: dict[str, Any], columns: list[str]) -> str:
        raise NotImplementedError


class CSVWriter(_RowWriter):
    """Comma-separated values: a line per update, setting and seed; empty means None."""

    def _header(self, columns):
        return _csv_line(columns)

    def _format(self, row, columns):
        return _csv_line([row.get(name) for name in columns])


class JSONLinesWriter(_RowWriter):
    """JSON lines: an object per update, setting and seed; null for None, NaN and ∞."""

    def _header(self, columns):
        return ""

    def _format(self, row, columns):
        values = {name: row.get(name) for name in columns}
        return json.dumps({k: _finite(v) for k, v in values.items()}) + "\n"


def _of_file(error: OSError, path: Path) -> OSError:
    """The error with the name of the file, which one of `write` lacks."""
    return OSError(error.errno, error.strerror, str(path))


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    """Which file it is, by device and inode, and its size in bytes."""
    return status.st_dev, status.st_ino, status.st_size


def _first_difference(old: bytes, new: bytes) -> int:
    """The number of the first line, from 1, in which two texts differ."""
    pairs = itertools.zip_longest(old.split(b"\n"), new.split(b"\n"))
    return next(i for i, (a, b) in enumerate(pairs, 1) if a != b)


def _finite(value: Any) -> Any:
    """The value, or None for NaN and ∞, which JSON can't represent."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _csv_line(values: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


class _Tracker(contextlib.AbstractContextManager):
    """What the two trackers share: they open one run for each setting and seed."""

    def __init__(self):
        self._runs: dict[tuple[int, int], Any] = {}

    def __call__(self, report: Report) -> None:
        """Logs the report's rows, each to its own run."""
        checks.instance("report", report, Report, "a sweep passes to callbacks")
        for index, row in report.indexed_rows():
            at = index, row["seed"]
            if at not in self._runs:
                self._runs[at] = self._open(report.settings[index], *at, report)
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
    """TensorBoard event files in folder/<setting>/seed_<j>, plotted over updates.

    Needs tensorboardX. Every run has a file of its own, so this is meant for tens of
    runs, not thousands.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Checks that tensorboardX is installed.

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
        self._folder = checks.path("folder", folder)

    def _open(self, setting, index, seed, report):
        name = label(setting).replace("/", "_")
        return self._module.SummaryWriter(
            str(self._folder / name / f"seed_{seed}"),
            purge_step=1,  # a resumed sweep logs its earlier updates again
        )

    def _log(self, run, values, update):
        for name, value in values.items():
            run.add_scalar(name, value, update)

    def _close(self, run):
        run.close()


class WandBWriter(_Tracker):
    """Weights & Biases: a run per setting and seed, grouped by setting.

    Needs wandb, whose own settings apply, such as WANDB_MODE=offline. This is meant for
    tens of runs, not thousands. A resumed sweep opens new runs and logs all updates in
    them, from the first one on.
    """

    def __init__(self, project: str, **init: Any):
        """Checks that wandb is installed.

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

    The median is over all runs. Until the first report it says "compiling …". Where the
    output is no terminal and no notebook, it prints a line every five seconds instead.
    A sweep begins and ends it; a loop of your own does so by `with`.
    """

    LINE_SECONDS = 5.0
    """Between two lines of an output that is no terminal."""

    def __init__(self, console: Any = None):
        """Shows nothing yet.

        Args:
          console: a rich.console.Console, by default a new one.
        """
        import rich.console

        if console is None:
            console = rich.console.Console()
        checks.instance(
            "console", console, rich.console.Console, "rich.console.Console()"
        )
        self._console = console
        self._shown: Any = None  # what moves on the screen at present
        self._task: Any = None
        self._last_line: float | None = None

    def __enter__(self) -> "ProgressBar":
        if self._shown is None and self._last_line is None:
            if self._draws():
                self._shown = self._console.status("compiling …")
                self._shown.start()
            else:
                self._line("compiling …")
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if self._shown is not None:
            self._shown.stop()
        self._shown = self._task = self._last_line = None

    def __call__(self, report: Report) -> None:
        """Moves the bar."""
        checks.instance("report", report, Report, "a sweep passes to callbacks")
        note = _median_return(report)
        if not np.isnan(report.steps_per_second):
            note = f"{report.steps_per_second:,.0f} steps/s · {note}"
        if report.faults:
            note += f" · {len(report.faults)} broken"
        done, total = report.num_updates, report.total_updates
        if not self._draws():
            last, now = self._last_line, time.monotonic()
            if last is None or done == total or now - last >= self.LINE_SECONDS:
                self._line(f"{done}/{total} updates · {note}")
            return
        if self._task is None:
            self._start_bar(report, note)
        self._shown.update(self._task, completed=done, note=note)

    def _start_bar(self, report: Report, note: str) -> None:
        import rich.progress

        if self._shown is not None:
            self._shown.stop()
        self._shown = rich.progress.Progress(
            rich.progress.BarColumn(bar_width=16),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[note]}"),
            rich.progress.TimeRemainingColumn(compact=True),
            rich.progress.TextColumn("left"),
            console=self._console,
        )
        self._shown.start()
        self._task = self._shown.add_task(
            "training",
            total=report.total_updates,
            completed=report.num_updates,
            note=note,
        )

    def _draws(self) -> bool:
        return self._console.is_terminal or self._console.is_jupyter

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)
        self._last_line = time.monotonic()


def _median_return(report: Report) -> str:
    returns = np.concatenate(
        [
            statistics.windowed_episode_returns(m, 1)[1][:, 0]
            for m in report.metrics
            if m.num_episodes.size
        ]
    )
    seen = returns[~np.isnan(returns)]
    return f"median return {np.median(seen):.1f}" if seen.size else "no episode ended"
