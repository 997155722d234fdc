"""The experiment wing: many runs in one call, and all that goes with them.

`sweep.sweep` (`rljax.sweep`) trains agents × settings × environments × seeds. It hands
a `reports.Report` to callbacks such as those in `writers`; `checkpoint` saves and
restores its states. `statistics` summarises scores over seeds, `selection` judges
what was chosen on fresh ones, `rljax.plotting` draws them.
"""

from rljax.experiment import (
    checkpoint,
    faults,
    presets,
    reports,
    results,
    selection,
    settings,
    statistics,
    sweep,
    writers,
)
from rljax.experiment.checkpoint import Checkpoints
from rljax.experiment.results import SweepResult
from rljax.experiment.selection import confirm, sensitivity
from rljax.experiment.writers import (
    CSVWriter,
    JSONLinesWriter,
    ProgressBar,
    TensorBoardWriter,
    WandBWriter,
)

__all__ = [
    "CSVWriter",
    "Checkpoints",
    "JSONLinesWriter",
    "ProgressBar",
    "SweepResult",
    "TensorBoardWriter",
    "WandBWriter",
    "checkpoint",
    "confirm",
    "faults",
    "presets",
    "reports",
    "results",
    "selection",
    "sensitivity",
    "settings",
    "statistics",
    "sweep",
    "writers",
]
