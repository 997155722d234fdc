"""What the rows of a suite look like on a terminal of 80 columns."""

import statistics
from collections.abc import Sequence

import rich.markup
import rich.table

from contenders.rows import Comparison, Row
from contenders.traces import Kernel


def ratios(suite: str, rows: Sequence[Row]) -> rich.table.Table | None:
    """A line for each comparison that could be made, None if there is none."""
    table = rich.table.Table(title=suite, title_justify="left")
    table.add_column("ratio", justify="right")
    table.add_column("target", justify="right")
    table.add_column("")
    table.add_column("of")
    for row in rows:
        for comparison in row.comparisons:
            if comparison.ratio is not None:
                table.add_row(*line(row, comparison))
    return table if table.row_count else None


def line(row: Row, comparison: Comparison) -> tuple[str, str, str, str]:
    """Ratio, target, whether it is reached, and of what."""
    target, reached = comparison.target, comparison.reached
    bound = target.least if target.least is not None else target.most
    sign = "≥" if target.least is not None else "≤"
    names = f"{row.contender} against {target.against}"
    what = "" if target.of == "run" else f"{target.of}: "
    where = f", {row.case}" if row.case else ""
    return (
        f"{comparison.ratio:,.3g}" if comparison.ratio else "",
        "" if bound is None else f"{sign} {bound:g}",
        "" if reached is None else "✓" if reached else "✗",
        f"{what}{names}{where}",
    )


def figures(rows: Sequence[Row]) -> rich.table.Table:
    """A line for each contender."""
    table = rich.table.Table()
    table.add_column("contender")
    for heading in ("median, s", "per s", "trace+compile, s", "MiB"):
        table.add_column(heading, justify="right")
    if any("return" in check for row in rows for check in row.checks):
        table.add_column("return", justify="right")
    case = ""
    for row in rows:
        if row.case != case:
            case = row.case
            table.add_section()
            table.add_row(f"[bold]{case}[/bold]")
        if row.failed:
            table.add_row(row.contender, "failed")
            continue
        returns = [check["return"] for check in row.checks if "return" in check]
        built = row.build_seconds is not None
        table.add_row(
            row.contender,
            f"{row.seconds:.3g}",
            f"{short(row.rate)} {row.unit}s" if row.rate else "",
            f"{row.trace_seconds:.2f} + {row.compile_seconds:.2f}" if built else "",
            "" if row.peak_mib is None else f"{row.peak_mib:,.0f}",
            *([f"{statistics.mean(returns):.0f}"] if returns else []),
        )
    return table


def kernels(case: str, found: Sequence[Kernel], most: int = 30) -> rich.table.Table:
    """A line for each of the longest kernels."""
    total = sum(kernel.milliseconds for kernel in found)
    title = f"{case}: {len(found)} kernels take {total:,.2f} ms"
    table = rich.table.Table(title=title, title_justify="left")
    for heading in ("ms", "share", "runs"):
        table.add_column(heading, justify="right")
    table.add_column("kernel", no_wrap=True)
    for kernel in found[:most]:
        table.add_row(
            f"{kernel.milliseconds:,.3f}",
            f"{kernel.share:.1%}",
            f"{kernel.runs:,}",
            rich.markup.escape(kernel.name),
        )
    return table


def short(value: float) -> str:
    """Three digits, in thousands or millions where there are as many."""
    for factor, name in ((1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:,.3g}{name}"
    return f"{value:.3g}"
