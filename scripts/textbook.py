#!/usr/bin/env python
"""Draws the figures of Sutton and Barto (2018), and says whether they come out so.

python scripts/textbook.py              # all
python scripts/textbook.py 2.2 6.4      # some, by the book's numbers
python scripts/textbook.py --quick      # with fewer runs
"""

import csv
import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated

from figures import (
    bellman,
    blackjack,
    common,
    control,
    corridor,
    dyna,
    mountaincar,
    planning,
    testbed,
    walk,
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

MODULES = (
    testbed,
    bellman,
    planning,
    blackjack,
    walk,
    control,
    dyna,
    mountaincar,
    corridor,
)
FIGURES = {
    figure.number: figure
    for figure in sorted(
        (figure for module in MODULES for figure in module.FIGURES),
        key=lambda figure: tuple(map(int, figure.number.split("."))),
    )
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Draws the figures of Sutton and Barto (2018), by number."""

    figures: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Numbers of figures, such as 2.2; none: all of them."""
    quick: bool = False
    """Fewer runs, to see that it works."""
    output: Path = Path("runs")
    """Folder in which the run gets a new folder of its own."""

    def __post_init__(self):
        for number in self.figures:
            if number not in FIGURES:
                raise ValueError(f"figures are {', '.join(FIGURES)}, got {number!r}.")


def main() -> int:
    parallel.use_cpu_cores()
    try:
        config = tyro.cli(Config)
        folder = cli.make_run_folder(config.output, "textbook")
    except (TypeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    return cli.report_end(folder, lambda: run(config, folder, console))


def run(config: Config, folder: Path, console: rich.console.Console) -> int:
    """Draws; `folder` gets a picture and a CSV of each figure, and all statements.

    Returns 1 if a statement does not hold.
    """
    cli.write_config(folder, dataclasses.asdict(config), version=rljax.__version__)
    start = time.perf_counter()
    stated = {}
    for number in config.figures or FIGURES:
        figure, begun = FIGURES[number], time.perf_counter()
        with console.status(f"figure {number}: {figure.title} …"):
            drawn = figure.draw(quick=config.quick)
        seconds = time.perf_counter() - begun
        drawn.picture.savefig(folder / f"{number}.png", dpi=100)
        write_curves(folder / f"{number}.csv", drawn)
        stated[number] = drawn.statements
        write_statements(folder / "statements.csv", stated)
        console.print(table_of(figure, drawn.statements, seconds))
    cli.say(
        console,
        f"{time.perf_counter() - start:.0f} s, compilation included. Saved in {folder}",
    )
    return int(not all(s.holds for rows in stated.values() for s in rows))


def table_of(
    figure: common.Figure, statements: list[common.Statement], seconds: float
) -> rich.table.Table:
    """What the book or the theory says of a figure, and what was measured."""
    title = f"Figure {figure.number}: {figure.title} ({seconds:.0f} s)"
    table = rich.table.Table(title=title, title_justify="left")
    table.add_column("statement", overflow="fold")
    for heading in ("value", "99.9 %", "runs", "holds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for said in statements:
        interval = f"[{said.low:.4g}, {said.high:.4g}]" if said.num else "computed"
        runs = f"{said.num:,}" if said.num else ""
        holds = "yes" if said.holds else "NO"
        table.add_row(said.text, f"{said.value:.4g}", interval, runs, holds)
    return table


def write_curves(path: Path, drawn: common.Drawn) -> None:
    """Writes all curves as CSV, a row for each point."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["panel", "curve", "x", "y", "low", "high"])
        for panel, curves in drawn.panels.items():
            for curve in curves:
                for x, *numbers in zip(*curve[1:], strict=True):
                    rounded = (f"{number:.6g}" for number in numbers)
                    writer.writerow([panel, curve.name, f"{x:g}", *rounded])


def write_statements(path: Path, stated: dict[str, list[common.Statement]]) -> None:
    """Writes all statements as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["figure", *common.Statement._fields])
        for number, statements in stated.items():
            writer.writerows([number, *said] for said in statements)


if __name__ == "__main__":
    sys.exit(main())
