#!/usr/bin/env python
"""Puts what the text claims to the test: an experiment, an interval, a verdict.

python scripts/claims.py              # all, 4 minutes
python scripts/claims.py ucb kl       # some
python scripts/claims.py --quick      # fewer seeds, 2 minutes
"""

import csv
import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated

from claimed import (
    baseline,
    clip,
    common,
    faster,
    kl,
    shortest,
    trunk,
    ucb,
    uphill,
    variance,
)

import rljax
from rljax import parallel
from rljax.experiment import cli

try:
    import rich.console
    import rich.table
    import tyro
except ImportError as error:
    sys.exit(f"{error}. Install the command-line extra: pip install -e '.[cli]'")

CLAIMS = {
    module.CLAIM.name: module.CLAIM
    for module in (
        uphill,
        shortest,
        ucb,
        variance,
        baseline,
        trunk,
        faster,
        clip,
        kl,
    )
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Puts what the text claims to the test."""

    claims: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of claims; none: all of them."""
    quick: bool = False
    """Fewer seeds and cases, to see that it runs."""
    output: Path = Path("runs")
    """Folder in which the run gets a new folder of its own."""

    def __post_init__(self):
        for name in self.claims:
            if name not in CLAIMS:
                raise ValueError(f"claims are {', '.join(CLAIMS)}, got {name!r}.")


def main() -> int:
    parallel.use_cpu_cores()
    try:
        config = tyro.cli(Config)
        folder = cli.make_run_folder(config.output, "claims")
    except (TypeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    return cli.report_end(folder, lambda: run(config, folder, console))


def run(config: Config, folder: Path, console: rich.console.Console) -> int:
    """Measures, prints a table per claim, and leaves all rows in `folder`."""
    cli.write_config(folder, dataclasses.asdict(config), version=rljax.__version__)
    start = time.perf_counter()
    found = {}
    for name in config.claims or CLAIMS:
        with console.status(f"{CLAIMS[name].text} …"):
            found[name] = CLAIMS[name].measure(quick=config.quick)
        console.print(table_of(CLAIMS[name], found[name]))
        write(folder / "claims.csv", found)  # at once: what is measured is not lost
    console.print(
        f"{time.perf_counter() - start:.0f} s, compilation included. Saved in {folder}",
        soft_wrap=True,
        markup=False,
    )
    return 0


def table_of(claim: common.Claim, rows: list[common.Row]) -> rich.table.Table:
    """A claim with its cases and verdicts."""
    title = f"{claim.text} → {common.overall(rows)}"
    table = rich.table.Table(title=title, title_justify="left")
    table.add_column("case", overflow="fold")
    for heading in ("value", "95 %", "of", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        interval = f"[{row.low:.3f}, {row.high:.3f}]"
        cells = (row.case, f"{row.value:.3f}", interval, f"{row.num:,}", row.verdict)
        table.add_row(*cells)
    table.caption = f"{claim.statistic}; holds if {claim.rule}"
    return table


def write(path: Path, found: dict[str, list[common.Row]]) -> None:
    """Writes all rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["claim", *common.Row._fields])
        for name, rows in found.items():
            writer.writerows([name, *row] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
