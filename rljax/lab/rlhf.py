"""The tab of RLHF: a policy on its way from its reference to the exact optimum."""

from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    BasicTicker,
    Checkbox,
    ColumnDataSource,
    CustomJSTickFormatter,
    DataRange1d,
    FixedTicker,
    HoverTool,
    NumeralTickFormatter,
    Select,
    Slider,
)

from rljax.lab import page, texts

# Sliders of what matters in ratios hold its logarithm to the base of 10.
KL_COEF = (-2.0, 0.48)
STEP_SIZE = (-3.0, 0.0)
ROUNDED = "return Number((10 ** tick).toPrecision(2)).toString()"
BARS = ("x", "left", "right", "name", "reward", "reference", "policy", "optimal")
ABOUT = """The policy π writes three letters for a reward r, and pays β for each nat
that it is away from π_ref. Orange is exact."""
TOOLTIPS = [
    ("text", "@name"),
    ("reward", "@reward{0.000}"),
    ("π", "@policy{0.0000}"),
    ("π_ref", "@reference{0.0000}"),
    ("π*", "@optimal{0.0000}"),
]


class AlignmentTab(page.Tab):
    """Learning to write texts for a reward, less β times the KL from a reference."""

    title = "RLHF"

    def __init__(self):
        single = {"one update": self._one_update}
        super().__init__(single, unit="updates", speed="10")
        self._make_controls()
        self._make_bars()
        self._make_plane()
        self._make_curve()
        self._lay_out()
        self.reset()

    def reset(self) -> None:
        """Starts anew, with the algorithm and the seed that the controls say."""
        self.say()
        self.writer = texts.Writer(
            page.chosen(self._agent.value, list(texts.AGENTS)),
            self.number_of_seed(),
            self._settings(),
            others=self._others.active is True,
        )
        for item in self._of_others:
            item.visible = self.writer.others is not None
        self._show_problem()
        self.draw()

    def advance(self, num_steps: int) -> None:
        """Learns from so many updates."""
        self.writer.advance(num_steps)

    def draw(self) -> None:
        """The bars, the point on the plane, the curves and the numbers."""
        writer = self.writer
        standing = writer.judge()
        order, exact = self._order, standing.exact
        self._bars.data = self._known | {
            "policy": standing.probs[order],
            "optimal": standing.optimal_probs[order],
        }
        history: Any = writer.history.columns()
        self._history.data = history
        self._way.data = dict(zip(("kl", "reward"), writer.history.way(), strict=True))
        self._show_points(standing)
        full = float(exact.optimum) - writer.reference_objective
        self.numbers.text = page.readouts(
            {
                "updates": f"{writer.num_updates:,}",
                "E[r], expected reward": f"{exact.expected_reward:z.3f}",
                "KL(π‖π_ref), nats": f"{exact.kl:z.3f}",
                "J(π) = E[r] − β KL": f"{exact.objective:z.3f}",
                "J(π*)": f"{exact.optimum:z.3f}",
                "J(π_ref)": f"{writer.reference_objective:z.3f}",
                "of the gap to J(π*) is left": f"{100 * exact.gap / full:z.2f} %",
            }
        )

    def _one_update(self):
        self.advance(1)
        self.draw()

    def _settings(self) -> texts.Settings:
        return texts.Settings(
            _number(self._kl_coef.value, *KL_COEF, default=-0.52),
            _number(self._step_size.value, *STEP_SIZE, default=-1.3),
        )

    # Controls.

    def _make_controls(self):
        style: Any = {"stylesheets": [page.sheet()]}
        self._agent = Select(
            title="algorithm",
            options=list(texts.AGENTS),
            value=next(iter(texts.AGENTS)),
            width=180,
            **style,
        )
        self._kl_coef = self._slider("price of a nat, β", *KL_COEF, -0.52)
        self._step_size = self._slider("step size", *STEP_SIZE, -1.3)
        self._others = Checkbox(
            label=f"{texts.NUM_OTHERS} other seeds learn along", active=False, **style
        )
        page.on_change(self._agent, "value", self._choose_agent)
        page.on_change(self._others, "active", self.guarded(self.reset))
        for slider in (self._kl_coef, self._step_size):
            page.on_change(slider, "value", self.guarded(self._change))

    def _slider(self, title, low, high, value):
        return Slider(
            title=title,
            start=low,
            end=high,
            step=0.01,
            value=value,
            format=CustomJSTickFormatter(code=ROUNDED),
            width=220,
            tooltips=False,
            stylesheets=[page.sheet()],
        )

    def _choose_agent(self):
        agent = page.chosen(self._agent.value, list(texts.AGENTS))
        step_size = texts.AGENTS[agent].step_size
        self._step_size.value = round(float(np.log10(step_size)), 2)
        self.guarded(self.reset)()

    def _change(self):
        """Another β moves π* at once; both hold from the next update on."""
        self.writer.change(self._settings())
        self.draw()

    # Plots.

    def _make_bars(self):
        self._known: dict[str, Any] = {}
        self._bars = _source(*BARS)
        self._bar_plot = plot = page.plot(
            "",
            width=1250,
            height=260,
            x_axis_label="all texts and their rewards, best first",
            y_axis_label="probability",
            y_range=DataRange1d(start=0, range_padding=0.06),
            x_range=(-0.6, len(texts.names()) - 0.4),
            tools=[HoverTool(tooltips=TOOLTIPS, mode="vline")],
        )
        plot.xgrid.visible = False
        bar: Any = {"x": "x", "source": self._bars, "line_color": None}
        plot.vbar(
            top="reference",
            width=0.9,
            color=page.GREY,
            alpha=0.45,
            legend_label="reference π_ref",
            **bar,
        )
        policy = plot.vbar(
            top="policy", width=0.5, color=page.BLUE, legend_label="policy π", **bar
        )
        plot.segment(
            x0="left",
            x1="right",
            y0="optimal",
            y1="optimal",
            source=self._bars,
            color=page.ORANGE,
            line_width=4,
            legend_label="optimum π* ∝ π_ref exp(r/β)",
        )
        plot.hover.renderers = [policy]
        page.legend_above(plot)

    def _make_plane(self):
        self._frontier = _source("kl", "reward")
        self._way = _source("kl", "reward")
        points = ("reference", "optimum", "equal", "policy", "others")
        self._points = {name: _source("kl", "reward") for name in points}
        self._plane = plot = page.plot(
            "",
            width=570,
            height=310,
            x_axis_label="KL(π‖π_ref) in nats",
            y_axis_label="E[r]",
            x_range=DataRange1d(),
            y_range=DataRange1d(range_padding=0.2),
        )

        def line(source, label, **looks):
            looks["legend_label"] = label
            return plot.line("kl", "reward", source=source, **looks)

        def dots(name, **looks):
            return plot.scatter("kl", "reward", source=self._points[name], **looks)

        orange: Any = {"color": page.ORANGE, "width": 2}
        frontier = line(self._frontier, "frontier: π* of every β", **orange)
        dotted: Any = {"color": page.GREY, "line_dash": "dotted", "width": 1.5}
        line(self._points["equal"], "J = J(π*)", **dotted)
        others = dots("others", size=6, color=page.SKY, legend_label="other seeds")
        way = line(self._way, "policy π", color=page.BLUE, width=2)
        white: Any = {"line_color": "white", "line_width": 1.5}
        dots("reference", size=11, marker="square", color=page.GREY)
        dots("optimum", size=16, marker="diamond", fill_color=page.ORANGE, **white)
        policy = dots("policy", size=12, fill_color=page.BLUE, **white)
        for name, words, x, y in (
            ("reference", "π_ref", 10, 8),
            ("optimum", "π*", -14, -10),
        ):
            plot.text(
                "kl",
                "reward",
                text={"value": words},
                source=self._points[name],
                x_offset=x,
                y_offset=y,
                text_color=page.GREY,
                text_font_size="13px",
            )
        # The dotted line is endless, and is cut where the plot ends.
        for axis in (plot.x_range, plot.y_range):
            axis.renderers = [frontier, way, others, policy]
        page.legend_above(plot)
        self._of_others = [others, _item(plot, "other seeds")]

    def _make_curve(self):
        self._curve = plot = page.plot(
            "",
            width=680,
            height=310,
            x_axis_label="updates",
            y_axis_label="J = E[r] − β KL",
            x_range=DataRange1d(start=0),
        )
        plot.xaxis.ticker = BasicTicker(min_interval=1)
        plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
        self._history = _source(*texts.Row._fields)
        looks: Any = {"x": "num_updates", "source": self._history}
        sky: Any = {"color": page.SKY, "legend_label": "90 % of the others, median"}
        band = plot.varea(y1="low", y2="high", alpha=0.3, **looks, **sky)
        middle = plot.line(y="middle", width=2, **looks, **sky)
        plot.line(
            y="objective", color=page.BLUE, width=2.5, legend_label="policy π", **looks
        )
        plot.line(
            y="optimum",
            color=page.ORANGE,
            width=2,
            line_dash="dashed",
            legend_label="π*, at the β of the time",
            **looks,
        )
        page.legend_above(plot)
        self._of_others += [band, middle, _item(plot, sky["legend_label"])]

    def _lay_out(self):
        self._others.margin = (24, 5, 5, 12)
        self.notice.width = 520
        self.speed.width = 290
        about = page.text(ABOUT, width=385, margin=(8, 5, 5, 12))
        self.shown = [column(self._bar_plot, row(self._plane, self._curve))]
        self.root.children = [
            row(self.buttons, self.speed, self.seed, self.notice),
            row(self._agent, self._kl_coef, self._step_size, self._others, about),
            self.numbers,
            *self.shown,
        ]

    def _show_problem(self):
        """What the seed has drawn: rewards, π_ref and the frontier."""
        problem = self.writer.problem
        rewards = np.asarray(problem.rewards)[0]
        self._order = np.argsort(-rewards, kind="stable")
        names = np.array(texts.names())[self._order].tolist()
        rewards = rewards[self._order]
        x = np.arange(len(names))
        self._known = {
            "x": x,
            "left": x - 0.45,
            "right": x + 0.45,
            "name": names,
            "reward": rewards,
            "reference": np.exp(problem.reference_log_probs)[0, self._order],
        }
        axis = self._bar_plot.xaxis[0]
        axis.ticker = FixedTicker(ticks=x.tolist())
        axis.major_label_overrides = {
            i: f"{name}\n{reward:+.2f}".replace("-", "−")
            for i, (name, reward) in enumerate(zip(names, rewards, strict=True))
        }
        frontier = (problem.frontier_kl, problem.frontier_reward)
        kl, reward = map(np.asarray, frontier)
        self._frontier.data = {"kl": kl, "reward": reward}
        self._points["reference"].data = {"kl": kl[:1], "reward": reward[:1]}

    def _show_points(self, standing):
        """Where the policies are on the plane, and how good each place there is."""
        exact, price = standing.exact, self.writer.settings.kl_coef
        self._points["policy"].data = _places(exact)
        self._points["optimum"].data = _places(standing.best)
        self._points["others"].data = _places(standing.others)
        far = 100.0
        equal = [exact.optimum, exact.optimum + price * far]
        self._points["equal"].data = {"kl": [0.0, far], "reward": equal}


def _number(value: Any, low: float, high: float, *, default: float) -> float:
    """What a slider of logarithms says, as it is shown: in two digits."""
    return float(f"{10 ** page.bounded(value, low, high, default):.2g}")


def _source(*names: str) -> ColumnDataSource:
    """Columns with nothing in them yet."""
    empty: Any = {name: [] for name in names}
    return ColumnDataSource(empty)


def _item(plot: Any, label: str) -> Any:
    """The entry of a plot's legend."""
    return next(i for i in plot.legend[0].items if i.label.value == label)


def _places(exact: Any) -> dict[str, Any]:
    """Points on the plane, of one policy or many."""
    return {
        "kl": np.atleast_1d(exact.kl),
        "reward": np.atleast_1d(exact.expected_reward),
    }
