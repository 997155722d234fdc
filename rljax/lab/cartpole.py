"""The tab of the pole: three methods that balance it, and a person who pushes."""

import time
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    Checkbox,
    ColumnDataSource,
    CustomJS,
    NumeralTickFormatter,
    RadioButtonGroup,
    Slider,
    Span,
)

from rljax.lab import page, poles
from rljax.lab.polepicture import PolePicture

COLORS = dict(zip(poles.METHODS, (page.ORANGE, page.GREEN, page.BLUE), strict=True))
RANGES = {"gravity": (0.0, 25.0), "length": (0.2, 1.6), "force": (1.0, 30.0)}
NO_POINT: Any = {"x": [np.nan], "y": [np.nan]}
"""Of a curve without any; it still has its line in the legend."""
NO_BAND: Any = {"x": [np.nan], "low": [np.nan], "middle": [np.nan], "high": [np.nan]}
OTHERS_BUSY_S = 0.012
"""Seconds of a frame that go into the other seeds, if these are behind."""
PUSH_SEEN_S = 0.3
"""For how long the arrow of a person's push is seen."""
# Runs in the browser: the arrow keys, where the plot is seen and no control has them.
KEYS = """
document.removeEventListener("keydown", window.rljax_pole_keys)
window.rljax_pole_keys = (event) => {
  const direction = {ArrowLeft: -1, ArrowRight: 1}[event.key]
  const view = Bokeh.index.find_one(plot)
  const seen = view?.el.checkVisibility({visibilityProperty: true})
  const taken = event.composedPath()[0].closest?.("input, select, [role=slider]")
  if (!direction || !seen || taken) return
  event.preventDefault()
  if (event.repeat) return
  const number = (keys.data.number[0] + 1) % 1000
  keys.data = {direction: [direction], number: [number]}
}
document.addEventListener("keydown", window.rljax_pole_keys)
"""


class PoleTab(page.Tab):
    """Learning to balance a pole, while a person pushes it."""

    title = "Pole balancer"

    def __init__(self):
        singles = {
            "one step": lambda: self._go_on(1),
            "one episode": lambda: self._go_on(None),
        }
        super().__init__(singles)
        self._learners: dict[str, poles.Learner] = {}
        self._picture = PolePicture()
        self._make_curves()
        self._make_controls()
        self._lay_out()
        self.reset()

    # What happens.

    @property
    def method(self) -> str:
        """The method that is seen and plays."""
        methods = list(poles.METHODS)
        return methods[int(page.bounded(self._method.active, 0, len(methods) - 1, 0))]

    @property
    def learner(self) -> poles.Learner:
        """Its training, which starts when it is first asked for."""
        if self.method not in self._learners:
            self._learners[self.method] = poles.Learner(
                self.method, self.number_of_seed(), self._physics()
            )
        return self._learners[self.method]

    def reset(self) -> None:
        """Starts all methods anew."""
        self.say()
        self._learners.clear()
        self._num_pushes, self._push, self._pushed = 0, 0, 0.0
        self._others_steps = 1.0
        for source in self._curves_of.values():
            source.data = NO_POINT
        self._band.data = NO_BAND
        self.draw()

    def advance(self, num_steps: int) -> None:
        """Takes so many steps."""
        self.learner.advance(num_steps)

    def frame(self, elapsed: float) -> None:
        """Takes the steps that are due; the other seeds follow as time allows."""
        if not self.learner.is_ready():
            self.say(f"{self.method} is compiled, once …")
            return
        self.say()
        super().frame(elapsed)
        if self._others.active and self.learner.others_are_ready():
            start = time.perf_counter()
            taken = self.learner.advance_others(int(self._others_steps))
            if taken:
                wanted = taken * OTHERS_BUSY_S / (time.perf_counter() - start)
                self._others_steps = min(max(wanted, 1.0), 4 * taken)
                self._draw_band()

    def step_to_record(self, num_steps: int) -> None:
        """Takes so many steps, the other seeds too, and draws everything."""
        if num_steps:
            self._take(num_steps)
        self.draw()

    def draw(self) -> None:
        """The cart, the numbers and the curve."""
        learner, color = self.learner, COLORS[self.method]
        state, length = learner.state, learner.physics.length
        recent = time.monotonic() - self._pushed < PUSH_SEEN_S
        agent = 0 if learner.action is None else 2 * learner.action - 1
        self._picture.show(state, length, color, agent, self._push * recent)
        self._picture.show_fallen(learner.fallen, length)
        if learner.num_episodes:
            self._draw_curve()
        self.numbers.text = page.readouts(
            {
                "method": f'<i style="color:{color}">■</i> {self.method}',
                "episode": f"{learner.num_episodes + 1:,}",
                "length": f"{learner.steps_in_episode:,}",
                "length of the last one": f"{learner.last:,}",
                f"best (most: {poles.LIMIT})": f"{learner.longest:,}",
                "steps in all": f"{learner.num_steps:,}",
                "updates": f"{learner.num_updates:,}",
                "your pushes": f"{self._num_pushes:,}",
            }
        )

    def push(self, direction: int) -> None:
        """A person pushes the cart to the left (−1) or to the right (1)."""
        self._num_pushes += 1
        self._push, self._pushed = direction, time.monotonic()
        self.learner.push(direction)
        self.draw()

    def _go_on(self, num_steps: int | None):
        """By so many steps, or to the end of the episode."""
        self._take(num_steps)
        self.draw()

    def _take(self, num_steps: int | None):
        if num_steps is None:
            self.learner.finish_episode()
        else:
            self.learner.advance(num_steps)
        if self._others.active:
            while self.learner.advance_others(poles.LIMIT):
                pass
            self._draw_band()

    def _draw_curve(self):
        learner = self.learner
        ends, means = learner.curve.means()
        some = ~np.isnan(means[0])
        steps = np.minimum(ends[some], learner.num_steps)
        self._curves_of[self.method].data = {"x": steps, "y": means[0, some]}

    def _draw_band(self):
        ends, quartiles = self.learner.others_curve.band()
        if self._others.active and len(ends):
            names = ("low", "middle", "high")
            self._band.data = {"x": ends} | dict(zip(names, quartiles, strict=True))
        else:
            self._band.data = NO_BAND

    # What the controls do.

    def _physics(self) -> poles.Physics:
        values = {
            name: page.bounded(
                self._sliders[name].value, *bounds, getattr(poles.Physics(), name)
            )
            for name, bounds in RANGES.items()
        }
        return poles.Physics(**values)

    def _change(self):
        """Other physics, at once and for all methods."""
        for learner in self._learners.values():
            learner.change(self._physics())
        self.draw()

    def _choose_method(self):
        """Another method is seen and goes on where it stopped."""
        color = COLORS[self.method]
        for glyph in self._band_glyphs:
            glyph.glyph.update(
                **{
                    name: color
                    for name in ("fill_color", "line_color")
                    if name in glyph.glyph.properties()
                }
            )
        self._others_steps = 1.0
        self._draw_band()
        self.draw()

    def _key_pressed(self):
        direction = self._keys.data.get("direction")
        if isinstance(direction, list) and direction and direction[0] in (-1, 1):
            self.push(int(direction[0]))

    # What is on the page.

    def _make_curves(self):
        self._curves_of = {name: ColumnDataSource(NO_POINT) for name in poles.METHODS}
        self._band = ColumnDataSource(NO_BAND)
        self._curves = curves = page.plot(
            "Length of an episode, by the steps that were taken",
            width=1230,
            height=300,
            x_axis_label="steps",
            y_range=(0, poles.LIMIT * 1.04),
        )
        most = Span(
            location=poles.LIMIT, dimension="width", line_color=page.GREY, line_width=1
        )
        curves.add_layout(most)
        color = next(iter(COLORS.values()))
        area = curves.varea(
            "x",
            "low",
            "high",
            source=self._band,
            color=color,
            alpha=0.22,
            legend_label=f"middle half of {poles.NUM_OTHERS} other seeds",
        )
        median = curves.line(
            "x",
            "middle",
            source=self._band,
            color=color,
            width=2,
            line_dash="dashed",
            legend_label="their median",
        )
        self._band_glyphs = (area, median)
        for name, source in self._curves_of.items():
            curves.line(
                "x",
                "y",
                source=source,
                color=COLORS[name],
                width=2,
                legend_label=name,
            )
        page.legend_below(curves)
        curves.x_range.start = 0
        curves.scatter([0, 100], [0, 0], alpha=0)  # what is seen before there is more
        curves.xaxis.formatter = NumeralTickFormatter(format="0,0")

    def _make_controls(self):
        style: Any = {"stylesheets": [page.sheet()]}
        self._method = RadioButtonGroup(labels=list(poles.METHODS), active=0, **style)
        page.on_change(self._method, "active", self.guarded(self._choose_method))
        titles = {
            "gravity": "gravity, m/s²",
            "length": "pole length, m",
            "force": "force of the agent, N",
        }
        self._sliders = {
            name: Slider(
                title=title,
                start=RANGES[name][0],
                end=RANGES[name][1],
                value=getattr(poles.Physics(), name),
                step=0.1,
                width=240,
                **style,
            )
            for name, title in titles.items()
        }
        for slider in self._sliders.values():
            page.on_change(slider, "value", self.guarded(self._change))
        label = f"{poles.NUM_OTHERS} other seeds learn along"
        self._others = Checkbox(label=label, active=True, **style)
        page.on_change(self._others, "active", self.guarded(self._draw_band))
        self._keys = ColumnDataSource({"direction": [0], "number": [0]})
        page.on_change(self._keys, "data", self.guarded(self._key_pressed))
        listen = CustomJS(
            args={"plot": self._picture.plot, "keys": self._keys}, code=KEYS
        )
        self._picture.plot.js_on_change("inner_width", listen)
        self._push_buttons = []
        for label, direction in (("← push", -1), ("push →", 1)):
            button = Button(label=label, width=95)
            button.on_click(self.guarded(lambda d=direction: self.push(d)))
            self._push_buttons.append(button)

    def _lay_out(self):
        self.shown = [column(self._picture.plot, self._curves)]
        self.speed.width = 330
        hint = page.text("or the keys ← and →: play against the agent.")
        controls = column(
            self._method,
            row(*self._push_buttons, hint),
            row(self.speed, self.seed),
            row(self._sliders["gravity"], self._sliders["length"]),
            row(self._sliders["force"], self._others),
        )
        self.root.children = [
            row(self.buttons, self.notice),
            self.numbers,
            row(self._picture.plot, controls),
            self._curves,
        ]
