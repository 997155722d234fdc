"""Callbacks of a sweep: writers of files, trackers and a progress bar.

Each is called with a `reports.Report`.
"""

import contextlib
import csv
import io
import json
import os
from typing import Any

import numpy as np

from rljax import checks
from rljax.experiment import statistics
from rljax.experiment.reports import Report
from rljax.experiment.settings import label, text


class _RowWriter:
    """Writes each row of each report as a line of a text file."""

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False):
        """Writes nothing before the first report.

        Args:
          path: file to write.
          append: whether to go on with the file of a sweep that is now resumed. The
            first report then holds all that was done before, and the file is written
            anew from it: rows of updates that will be done again are dropped, and rows
            that were lost come back. If the sweep isn't resumed, a file with content is
            an error.

        Raises:
          FileExistsError: the file exists and `append` is False.
        """
        self.path = checks.path("path", path)
        self._append = checks.boolean("append", append)
        self._left: tuple[int, int, int] | None = None  # where, and of which size
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
          FileExistsError: the file exists by now and `append` is False.
          ValueError: the file was written by something else or by another sweep, this
            writer has served another sweep, or it was not called with the sweep's first
            report. Nothing is written then.
          OSError: the file can't be written, or it is not as this writer left it after
            the report before. Nothing is written in the second case.
        """
        checks.instance("report", report, Report, "a sweep passes to callbacks")
        columns = report.columns()
        lines = "".join(self._format(row, columns) for row in report.rows())
        if report.first_update == 0:
            self._start(report, columns, lines)
        elif self._left is not None:
            self._go_on(self._left, lines)
        else:
            raise ValueError(
                f"the writer of {self.path} must be called with every report, from the "
                f"first one on; this one begins after update {report.first_update}."
            )

    def _start(self, report: Report, columns: list[str], lines: str) -> None:
        if self._left is not None:
            raise ValueError(
                f"the writer of {self.path} has served a sweep already; make a new one."
            )
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
        new, mode = self.path, "xb"
        if self._append:
            new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
            mode = "wb"
        with open(new, mode) as file:
            file.write((header + lines).encode())
        self._left = _identity(new.stat())
        os.replace(new, self.path)

    def _go_on(self, left: tuple[int, int, int], lines: str) -> None:
        remedy = (
            "See that no other process writes there, and resume from a checkpoint with "
            "append=True: that writes the file anew."
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
            file.seek(0, os.SEEK_END)
            file.write(lines.encode())
        self._left = (*left[:2], left[2] + len(lines.encode()))

    def _header(self, columns: list[str]) -> str:
        raise NotImplementedError

    def _format(self, row: dict[str, Any], columns: list[str]) -> str:
        raise NotImplementedError

    def _is_ours(self, content: bytes, header: str, columns: list[str]) -> bool:
        raise NotImplementedError


class CSVWriter(_RowWriter):
    """Comma-separated values: a line per update, setting and seed; empty means None."""

    def _header(self, columns):
        return _csv_line(columns)

    def _format(self, row, columns):
        return _csv_line([row.get(name) for name in columns])

    def _is_ours(self, content, header, columns):
        # A killed process may have written only the beginning of the header.
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


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    """Which file it is, by device and inode, and its size in bytes."""
    return status.st_dev, status.st_ino, status.st_size


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

        if console is None:
            console = rich.console.Console()
        checks.instance(
            "console", console, rich.console.Console, "rich.console.Console()"
        )
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
        checks.instance("report", report, Report, "a sweep passes to callbacks")
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
