"""The tab of grids: what an agent learns, how good that is, and every control."""

import time
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    Checkbox,
    ColumnDataSource,
    RadioButtonGroup,
    Select,
    Slider,
    Spinner,
)

from rljax.envs.gridmaps import CLIFF, FREE, GOAL, PIT, START, WALL
from rljax.lab import page, walks
from rljax.lab.gridpicture import GridPicture

MAPS = (
    "GridWorld-7x7",
    "GridWorld-5x5",
    "FrozenLake-4x4",
    "FrozenLake-8x8",
    "CliffWalking",
)
OWN = "your own"
BRUSHES = {
    "free": FREE,
    "wall": WALL,
    "goal": GOAL,
    "pit": PIT,
    "cliff": CLIFF,
    "start": START,
}
MOST_ROWS = 50
"""Rows and columns of a map of one's own, at most."""
SECONDS_BETWEEN_JUDGEMENTS = 0.5
MOST_POINTS = 400


class GridTab(page.Tab):
    """Learning on a grid, beside the exact answer."""

    title = "Gridworld"

    def __init__(self):
        singles = {
            "one step": lambda: self._go_on(1),
            "one episode": lambda: self._go_on(None),
        }
        super().__init__(singles)
        self.walk: walks.Walk | None = None
        self._drawn = ""
        self._picture = GridPicture(500)
        page.on_change(self._picture.selected, "indices", self._clicked)
        self._make_curves()
        self._make_controls()
        self._lay_out()
        self.reset()

    # What happens.

    def reset(self) -> None:
        """Starts anew, on the map and with the agent that the controls say."""
        self.say()
        self.walk = None
        name = page.chosen(self._map.value, [*MAPS, OWN])
        if name == OWN:  # shown as it is, even where nobody can learn on it
            self._picture.show_map(tuple(self._drawn.split("\n")))
            grid, warning = walks.grid_of(self._drawn)
        else:
            grid, warning = walks.grid_named(name), ""
            self._picture.show_map(grid.layout)
        self.walk = walks.Walk(
            grid,
            page.chosen(self._agent.value, list(walks.AGENTS)),
            page.chosen(self._rule.value, list(walks.RULES)),
            self.number_of_seed(),
            self._settings(),
            others=bool(self._others.active),
        )
        self.say(warning)
        self._find_exact()
        for source in (self._returns, self._band):
            source.data = {str(name): [] for name in source.data}
        self._judge()
        self.draw()

    def advance(self, num_steps: int) -> None:
        """Takes so many steps."""
        self._present().advance(num_steps)

    def settle(self) -> None:
        """Waits for the steps that are being taken."""
        self._present().settle()

    def draw(self) -> None:
        """The arrows' shades, where the agent is, and the numbers."""
        walk = self._present()
        if time.monotonic() - self._judged > SECONDS_BETWEEN_JUDGEMENTS:
            self._judge()
        path, at_goal = walk.greedy_path()
        self._picture.show_values(walk.q_values)
        self._picture.show_walk(path if at_goal else [], walk.cell)
        shortest = self._exact.shortest
        of = "" if shortest is None else f" (shortest: {shortest})"
        self.numbers.text = page.readouts(
            {
                "episode": f"{walk.num_episodes + 1:,}",
                "step of it": f"{walk.steps_in_episode:,}",
                "steps in all": f"{walk.num_steps:,}",
                "total reward": f"{walk.total_reward:,.2f}",
                "best path" + of: f"{len(path) - 1}" if at_goal else "–",
                "J of the greedy policy, exact": f"{self._own_return:.4f}",
                "J(π*)": f"{self._exact.best:.4f}",
            }
        )

    def step_to_record(self, num_steps: int) -> None:
        """Takes so many steps and draws everything, a point of the curves included."""
        if num_steps:
            self.advance(num_steps)
            self._judge()
        self.draw()

    def _present(self) -> walks.Walk:
        if self.walk is None:
            raise ValueError("Nobody can learn on this map yet: give it what it lacks.")
        return self.walk

    def _go_on(self, num_steps: int | None):
        """By so many steps, or to the end of the episode."""
        walk = self._present()
        if num_steps is None:
            walk.finish_episode()
        else:
            walk.advance(num_steps)
        self._judge()
        self.draw()

    def _judge(self):
        """A point of the curves of J."""
        walk = self._present()
        self._own_return, others = walk.expected_returns()
        self._judged = time.monotonic()
        steps = [walk.num_steps]
        self._returns.stream({"x": steps, "y": [self._own_return]}, MOST_POINTS)
        if others is not None:
            low, middle, high = np.quantile(others, [0.05, 0.5, 0.95])
            quantiles: Any = {"low": [low], "middle": [middle], "high": [high]}
            self._band.stream({"x": steps} | quantiles, MOST_POINTS)
        first = self._returns.data["x"][0]
        self._best.data = {"x": [first, steps[0]], "y": [self._exact.best] * 2}

    def _find_exact(self):
        self._exact = self._present().exact()
        self._picture.set_exact(self._exact.values, self._exact.policy)

    # What the controls do.

    def _settings(self) -> walks.Settings:
        rule = walks.RULES[page.chosen(self._rule.value, list(walks.RULES))]
        return walks.Settings(
            explore=page.bounded(self._explore.value, rule.low, rule.high, rule.start),
            step_size=page.bounded(self._step_size.value, 0.01, 1.0, 0.1),
            discount=page.bounded(self._discount.value, 0.5, 0.999, 0.99),
            slip=page.bounded(self._slip.value, 0.0, 1.0, 0.0),
        )

    def _change(self):
        """Other settings from the next step on; what is exact changes at once."""
        if self.walk is None:
            return
        before, settings = self.walk.settings, self._settings()
        self.walk.change(settings)
        if (before.discount, before.slip) != (settings.discount, settings.slip):
            self._find_exact()
            self._judge()
        self.draw()

    def _choose_map(self):
        name = page.chosen(self._map.value, [*MAPS, OWN])
        self._sizes.visible = name == OWN
        if name == OWN:
            self._drawn = self._drawn or "\n".join(self._picture.layout)
        else:
            self._drawn = ""
            # A map's own slip; FrozenLake is nothing without it.
            self._slip.value = round(float(walks.grid_named(name).slip or 0.0), 2)
        self.guarded(self.reset)()

    def _choose_rule(self):
        rule = walks.RULES[page.chosen(self._rule.value, list(walks.RULES))]
        self._explore.update(
            title=rule.symbol, start=rule.low, end=rule.high, value=rule.start
        )
        self.guarded(self.reset)()

    def _choose_size(self):
        if self._map.value != OWN:
            return
        self.play(False)
        rows, columns = (
            int(page.bounded(spinner.value, 2, MOST_ROWS, 7))
            for spinner in (self._rows, self._columns)
        )
        cells = np.full((rows, columns), FREE)
        cells[0, 0], cells[-1, -1] = START, GOAL
        self._drawn = "\n".join(map("".join, cells))
        self.guarded(self.reset)()

    def _clicked(self):
        """A click on a cell; the selection is taken back, to be clicked again."""
        clicked = self._picture.selected.indices
        if clicked:
            last = len("".join(self._picture.layout)) - 1
            cell = int(page.bounded(clicked[0], 0, last, 0))
            self._picture.selected.indices = []
            self._paint(cell)

    def _paint(self, cell: int):
        """The cell becomes what the brush says, on a map of one's own."""
        kinds = list(BRUSHES.values())
        kind = kinds[int(page.bounded(self._brush.active, 0, len(kinds) - 1, 0))]
        rows = [list(line) for line in self._picture.layout]
        line, place = divmod(cell, len(rows[0]))
        if kind == START:  # there is one
            rows = [[FREE if c == START else c for c in line] for line in rows]
        rows[line][place] = kind
        self._drawn = "\n".join(map("".join, rows))
        self.play(False)
        if self._map.value == OWN:
            self.guarded(self.reset)()
        else:
            self._map.value = OWN  # which resets

    # What is on the page.

    def _make_curves(self):
        self._returns = ColumnDataSource({"x": [], "y": []})
        self._band = ColumnDataSource({"x": [], "low": [], "middle": [], "high": []})
        self._best = ColumnDataSource({"x": [], "y": []})
        self._curves = curves = page.plot(
            "How good the greedy policy is: its return J, from the exact model",
            width=600,
            height=270,
            x_axis_label="steps",
        )
        curves.varea(
            "x",
            "low",
            "high",
            source=self._band,
            color=page.SKY,
            alpha=0.3,
            legend_label="9 of 10 other seeds",
        )
        for source, y, color, label, dash in (
            (self._band, "middle", page.SKY, "their median", "solid"),
            (self._returns, "y", page.BLUE, "this agent", "solid"),
            (self._best, "y", page.ORANGE, "J(π*)", "dashed"),
        ):
            curves.line(
                "x",
                y,
                source=source,
                color=color,
                width=2.5,
                line_dash=dash,
                legend_label=label,
            )
        page.legend_below(curves)
        curves.xaxis.formatter.use_scientific = False

    def _make_controls(self):
        def select(title, options):
            return Select(
                title=title,
                options=list(options),
                value=next(iter(options)),
                width=150,
                stylesheets=[page.sheet()],
            )

        def slider(title, low, high, value, step=0.01, **settings):
            return Slider(
                title=title,
                start=low,
                end=high,
                value=value,
                step=step,
                width=250,
                stylesheets=[page.sheet()],
                **settings,
            )

        style: Any = {"stylesheets": [page.sheet()]}
        self._map = select("map", (*MAPS, OWN))
        self._agent = select("agent", walks.AGENTS)
        self._rule = select("rule of exploration", walks.RULES)
        self._explore = slider("ε", 0, 1, 0.3)
        self._step_size = slider("step size α", 0.01, 1, 0.1)
        self._discount = slider("discount γ", 0.5, 0.999, 0.99, 0.001, format="0.000")
        self._slip = slider("slip", 0, 1, 0.0)
        label = f"{walks.NUM_OTHERS} other seeds learn along"
        self._others = Checkbox(label=label, active=True, **style)
        self._overlay = Checkbox(label="show V* and π*", active=False, **style)
        self._brush = RadioButtonGroup(labels=list(BRUSHES), active=1, **style)
        size: Any = {"low": 2, "high": MOST_ROWS, "value": 7, "width": 70} | style
        self._rows = Spinner(title="rows", **size)
        self._columns = Spinner(title="columns", **size)
        self._sizes = row(self._rows, self._columns, visible=False)
        anew = self.guarded(self.reset)
        page.on_change(self._agent, "value", anew)
        page.on_change(self._others, "active", anew)
        page.on_change(self._map, "value", self._choose_map)
        page.on_change(self._rule, "value", self._choose_rule)
        for control in (self._explore, self._step_size, self._discount, self._slip):
            page.on_change(control, "value", self.guarded(self._change))
        for glyph in self._picture.exact_glyphs:
            self._overlay.js_link("active", glyph, "visible")
        for spinner in (self._rows, self._columns):
            page.on_change(spinner, "value", self._choose_size)

    def _lay_out(self):
        self.shown = [self._picture.plot, self._curves, self._overlay]
        draw = page.text("Click cells to make them:")
        controls = column(
            row(self._map, self._agent, self._rule, self.seed),
            row(self.speed, self._explore),
            row(self._step_size, self._discount),
            row(self._slip, column(self._others, self._overlay)),
            row(column(draw, self._brush), self._sizes),
        )
        self.root.children = [
            row(self.buttons, self.notice),
            self.numbers,
            row(self._picture.plot, column(self._curves, controls)),
        ]
