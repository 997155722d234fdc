"""The pictures of the bandits: arms as strategies see them, regret, and a table."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FixedTicker, Range1d

from rljax.lab import page, slots

WIDTH = 612
NUM_ARMS = 5


class Look(NamedTuple):
    """How a strategy is told from the others: by colour, and by shape as well."""

    color: str
    marker: str
    sign: str
    """The marker in a line of text."""


LOOKS = dict(
    zip(
        slots.STRATEGIES,
        (
            Look(page.ORANGE, "circle", "●"),
            Look(page.RED, "square", "■"),
            Look(page.BLUE, "triangle", "▲"),
            Look(page.SKY, "diamond", "◆"),
            Look(page.GREEN, "inverted_triangle", "▼"),
            Look(page.PURPLE, "hex", "⬢"),
            Look(page.GREY, "star", "★"),
        ),
        strict=True,
    )
)
# Where a strategy stands within the place of an arm.
PLACES = {name: 0.115 * (i - (len(LOOKS) - 1) / 2) for i, name in enumerate(LOOKS)}
REWARDS = {"Gaussian": (-1.0, 3.0), "Bernoulli": (-0.08, 1.08)}
"""What the picture of the arms shows: four standard deviations of their means."""
LEAST_REGRET = 0.1
"""The lower end of the logarithmic picture of regret."""
TABLE_CSS = (
    "<style>table { border-collapse: collapse; font-variant-numeric: tabular-nums; }"
    "th { font-weight: 400; font-size: 12px; opacity: 0.75; text-align: right;"
    " vertical-align: bottom; padding: 0 0 2px 16px; }"
    "td { text-align: right; padding: 1px 0 1px 16px; white-space: nowrap; }"
    "th:first-child, td:first-child { text-align: left; padding-left: 0; }"
    "td small { opacity: 0.75; font-size: 12px; }"
    "td i { display: inline-block; width: 20px; font-style: normal; }</style>"
)
HEADS = (
    "strategy",
    "setting",
    "best arm,<br>of its pulls",
    "total<br>reward",
    "expected<br>regret",
    f"{slots.NUM_OTHERS:,} others: regret<br>after {slots.NUM_PULLS:,} pulls",
)


class BanditPicture:
    """Plots and a table of a game; `left` and `right` are to be laid out."""

    def __init__(self):
        self._dots = ColumnDataSource(_no_dots())
        self._last = ColumnDataSource({"x": [], "reward": [], "color": []})
        self._true = ColumnDataSource(_no_means())
        self._curves = {name: ColumnDataSource({"t": [], "y": []}) for name in LOOKS}
        self._bound = ColumnDataSource({"t": [], "y": []})
        self._bands = {name: ColumnDataSource(_no_band()) for name in LOOKS}
        self._band_glyphs: dict[str, list[Any]] = {name: [] for name in LOOKS}
        self._curve_glyphs: dict[str, list[Any]] = {name: [] for name in LOOKS}
        self._shown, self._bound_end = 0, 0.0
        self._results: dict[str, slots.Band] = {}
        self.table = page.text(width=WIDTH)
        self._arms_plot = self._make_arms_plot()
        self._counts_plot = self._make_counts_plot()
        self._regret_plots = [
            self._make_regret_plot(axis) for axis in ("linear", "log")
        ]
        self.left = column(self._arms_plot, self._counts_plot)
        self.right = column(*self._regret_plots, self.table)

    def start(self, game: slots.Game) -> None:
        """Draws everything, where more has changed than that pulls were added."""
        self._shown = 0
        low, high = REWARDS[game.arms]
        self._arms_plot.y_range.update(start=low, end=high)
        for source in self._curves.values():
            source.data = {"t": [], "y": []}
        bound = game.bound()
        self._bound_end = 0.0 if bound is None else float(bound[-1])
        times = np.arange(1, slots.NUM_PULLS + 1)
        self._bound.data = (
            {"t": [], "y": []} if bound is None else {"t": times, "y": bound}
        )

    def draw(self, game: slots.Game, names: Sequence[str], waiting: bool) -> None:
        """Shows where a game stands.

        Args:
          game: since the last `start`, it has only gone on.
          names: the strategies to be shown.
          waiting: whether the bands are on their way.
        """
        shown, now = self._shown, game.num_pulls
        if now > shown:
            times = np.arange(shown + 1, now + 1)
            for name, play in game.plays.items():
                self._curves[name].stream({"t": times, "y": play.regret[shown:now]})
        self._shown = now
        names = [name for name in names if name in game.plays]
        self._draw_arms(game, names)
        self._counts_plot.y_range.end = max(1.05 * now, 10)
        highest = [1.0, self._bound_end, *(game.regret(name) for name in names)]
        highest += [band.high[-1] for n, band in self._results.items() if n in names]
        self._regret_plots[0].y_range.end = 1.05 * float(max(highest))
        self.table.text = self._rows(game, waiting)

    def show_means(self, means: np.ndarray | None) -> None:
        """Shows the true means; with None, they are not even sent to the page."""
        if means is None:
            self._true.data = _no_means()
            return
        best = means == means.max()
        arms = np.arange(NUM_ARMS)
        self._true.data = {
            "left": arms - 0.43,
            "right": arms + 0.43,
            "mean": means,
            "color": np.where(best, page.GOLD, page.GREY),
            "width": np.where(best, 6, 3),
        }

    def show_bands(self, bands: dict[str, slots.Band]) -> None:
        """Shows the bands over the other bandits; none where there are none."""
        self._results = bands
        for name, source in self._bands.items():
            band = bands.get(name)
            source.data = _no_band() if band is None else _of_band(band)

    def choose(self, names: Sequence[str], *, bands: bool, logarithmic: bool) -> None:
        """Which strategies are in the picture of regret, and how."""
        for name in LOOKS:
            for glyph in self._curve_glyphs[name]:
                glyph.visible = name in names
            for glyph in self._band_glyphs[name]:
                glyph.visible = name in names and bands
        linear, log = self._regret_plots
        linear.visible, log.visible = not logarithmic, logarithmic

    def _draw_arms(self, game: slots.Game, names: Sequence[str]):
        """Each strategy's estimates, pulls of each arm, and last reward."""
        arms, dots = np.arange(NUM_ARMS), _no_dots()
        last: dict[str, Any] = {"x": [], "reward": [], "color": []}
        for name in names:
            look, place = LOOKS[name], PLACES[name]
            dots["x"].extend(arms + place)
            dots["estimate"].extend(game.estimates(name))
            dots["count"].extend(game.counts(name))
            dots["color"].extend([look.color] * NUM_ARMS)
            dots["marker"].extend([look.marker] * NUM_ARMS)
            pulled = game.last(name)
            if pulled is not None:
                last["x"].append(pulled[0] + place)
                last["reward"].append(pulled[1])
                last["color"].append(look.color)
        self._dots.data, self._last.data = dots, last

    def _rows(self, game: slots.Game, waiting: bool) -> str:
        """The table of the strategies."""
        html = [TABLE_CSS, "<table><tr>", *(f"<th>{head}</th>" for head in HEADS)]
        for name, look in LOOKS.items():
            now = ["–"] * 3
            if name in game.plays and game.num_pulls:
                now = [
                    f"{game.share_of_best(name):.1%}",
                    f"{game.total_reward(name):,.1f}",
                    f"{game.regret(name):,.1f}",
                ]
            band = self._results.get(name)
            others = "…" if waiting else "–"
            if band is not None:
                others = f"{band.mean[-1]:.1f} ± {band.error:.1f}"
            setting = slots.STRATEGIES[name].label(game.arms, game.settings)
            cells = [
                f'<i style="color:{look.color}">{look.sign}</i>{name}',
                f"<small>{setting}</small>",
                *now,
                others,
            ]
            html += ["<tr>", *(f"<td>{cell}</td>" for cell in cells), "</tr>"]
        return "".join([*html, "</table>"])

    def _make_arms_plot(self) -> Any:
        plot = page.plot(
            "What each strategy believes an arm pays; × is its last reward",
            width=WIDTH,
            height=300,
            x_range=(-0.55, NUM_ARMS - 0.45),
            y_range=(0, 1),
        )
        _label_arms(plot)
        plot.segment(
            *("left", "mean", "right", "mean"),
            source=self._true,
            line_color="color",
            line_width="width",
            line_alpha=0.8,
        )
        plot.scatter(
            *("x", "reward"),
            source=self._last,
            marker="x",
            size=9,
            line_color="color",
            line_width=2,
        )
        plot.scatter(
            *("x", "estimate"),
            source=self._dots,
            marker="marker",
            size=11,
            color="color",
        )
        return plot

    def _make_counts_plot(self) -> Any:
        plot = page.plot(
            "Pulls of each arm",
            width=WIDTH,
            height=190,
            x_range=self._arms_plot.x_range,
            y_range=(0, 10),
        )
        _label_arms(plot)
        plot.vbar("x", 0.1, "count", source=self._dots, color="color")
        return plot

    def _make_regret_plot(self, axis: str) -> Any:
        low, high = (LEAST_REGRET, 1000) if axis == "log" else (0, 2)
        plot = page.plot(
            "Expected regret here; shaded, dotted: middle 90 % and mean of the others",
            width=WIDTH,
            height=345,
            x_range=(0, slots.NUM_PULLS),
            y_range=Range1d(start=low, end=high),
            y_axis_type=axis,
            x_axis_label="pulls",
        )
        for name, look in LOOKS.items():
            source, color = self._bands[name], look.color
            self._band_glyphs[name] += [
                plot.varea(
                    "pulls", "low", "high", source=source, color=color, alpha=0.13
                ),
                plot.line(
                    "pulls",
                    "mean",
                    source=source,
                    color=color,
                    width=1.5,
                    line_dash="dotted",
                ),
            ]
        for name, look in LOOKS.items():
            curve = plot.line(
                "t", "y", source=self._curves[name], color=look.color, width=2.2
            )
            self._curve_glyphs[name].append(curve)
        plot.line(
            "t",
            "y",
            source=self._bound,
            color=page.GREY,
            width=2,
            line_dash="dashed",
            legend_label="Lai–Robbins bound, as pulls → ∞",
        )
        page.legend_below(plot)
        return plot


def _label_arms(plot: Any) -> None:
    plot.xaxis.ticker = FixedTicker(ticks=list(range(NUM_ARMS)))
    plot.xaxis.major_label_overrides = {i: f"arm {i + 1}" for i in range(NUM_ARMS)}
    plot.xgrid.grid_line_color = None


def _no_dots() -> dict[str, Any]:
    return {name: [] for name in ("x", "estimate", "count", "color", "marker")}


def _no_means() -> dict[str, Any]:
    return {name: [] for name in ("left", "right", "mean", "color", "width")}


def _no_band() -> dict[str, Any]:
    return {name: [] for name in ("pulls", "low", "mean", "high")}


def _of_band(band: slots.Band) -> dict[str, Any]:
    # A regret of 0 has no place on a logarithmic axis.
    low = np.maximum(band.low, LEAST_REGRET / 10)
    return {"pulls": band.pulls, "low": low, "mean": band.mean, "high": band.high}


def leader(game: slots.Game, score: Callable[[str], float], best: Any) -> str:
    """Who is ahead, once all strategies are in the game: `best` is min or max."""
    return "–" if game.missing or not game.num_pulls else best(game.plays, key=score)
