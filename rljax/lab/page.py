"""The page: tabs, a clock that ticks only while something plays, and its looks."""

import abc
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    CategoricalSlider,
    Div,
    GlobalInlineStyleSheet,
    InlineStyleSheet,
    Spinner,
    TabPanel,
    Tabs,
)
from bokeh.plotting import figure

PERIOD_MS = 40
"""Milliseconds from one frame to the next."""
BUSY_S = 0.02
"""Seconds of a frame for steps that are not taken in the background."""
FASTEST = "as fast as it goes"
SPEEDS = ["1", "2", "5", "10", "20", "50", "100", "200", "500", "1k", "2k", "5k"]
SPEEDS += ["10k", "100k", FASTEST]
READY_S = 0.002
"""Seconds of waiting for steps up to which they count as taken in time."""
LARGEST_SEED = 2**31 - 1

# Okabe and Ito's colours: people with any kind of colour blindness tell them apart. The
# grey is read on white as on black.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PURPLE, SKY, GOLD, GREY = "#cc79a7", "#56b4e9", "#d4a017", "#7f7f7f"

PAGE_CSS = """
:root { color-scheme: light dark; }
html, body { margin: 0; background: #ffffff; color: #1c1c1c;
  font-family: system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  html, body { background: #16181c; color: #e8e8e8; } }
"""
# Widgets live in shadow trees of their own, which inherit colours, not rules.
WIDGET_CSS = """
:host { color: inherit; font-size: 14px; }
.bk-input { color: inherit; background-color: transparent; }
.bk-input option { color: #1c1c1c; background: #ffffff; }
.bk-slider-title { color: inherit; }
.bk-tab { color: inherit !important; font-size: 15px; }
@media (prefers-color-scheme: dark) {
  .bk-tab.bk-active { background: #2b2f36 !important; }
  select:not([multiple]).bk-input { background-image: \
url('data:image/svg+xml;utf8,<svg version="1.1" \
viewBox="0 0 25 20" xmlns="http://www.w3.org/2000/svg"><path \
d="M 0,0 25,0 12.5,20 Z" fill="white" /></svg>') !important; }
  .bk-spin-btn-wrapper { filter: invert(1); } }
.readout { display: inline-block; margin-right: 22px; }
.readout b { font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
.readout span { display: block; font-size: 12px; opacity: 0.75; }
.notice { color: #d55e00; font-weight: 600; }
"""


def sheet() -> InlineStyleSheet:
    """The looks of a widget; a new one for each document."""
    return InlineStyleSheet(css=WIDGET_CSS)


def text(html: str = "", **settings: Any) -> Div:
    """A piece of the page's text."""
    return Div(text=html, stylesheets=[sheet()], **settings)


def readouts(values: dict[str, str]) -> str:
    """Numbers with their names below, in one line."""
    return "".join(
        f'<div class="readout"><b>{value}</b><span>{name}</span></div>'
        for name, value in values.items()
    )


def plot(title: str, **settings: Any) -> Any:
    """An empty plot, of a width and a height, read on light and on dark pages."""
    settings = {"toolbar_location": None, "tools": ""} | settings
    settings |= {"min_width": settings["width"], "min_height": settings["height"]}
    made: Any = figure(title=title, **settings)
    made.background_fill_alpha = made.border_fill_alpha = 0
    made.outline_line_color = None
    made.title.text_color = GREY
    made.title.text_font_size = "13px"
    for axis in made.axis:
        axis.axis_line_color = axis.major_tick_line_color = GREY
        axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = GREY
        axis.axis_label_text_font_style = "normal"
    made.grid.grid_line_color = GREY
    made.grid.grid_line_alpha = 0.25
    return made


def legend_below(made: Any) -> None:
    """Puts a plot's legend below it, where it covers no curve."""
    _move_legend(made, "below")


def legend_above(made: Any) -> None:
    """Puts a plot's legend in the place of a title."""
    _move_legend(made, "above")
    made.legend[0].update(location="left", padding=2, margin=2, spacing=16)


def _move_legend(made, place):
    legend = made.legend[0]
    legend.orientation = "horizontal"
    legend.background_fill_alpha = 0
    legend.border_line_color = None
    legend.label_text_color = GREY
    legend.label_text_font_size = "11px"
    made.add_layout(legend, place)


def bounded(value: Any, low: float, high: float, default: float) -> float:
    """A number that came from a page, within its bounds; the default if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    if math.isnan(value):
        return default
    return min(max(value, low), high)


def chosen(value: Any, options: Sequence[str]) -> str:
    """A choice that came from a page, the first option if it is none of them."""
    return value if isinstance(value, str) and value in options else options[0]


def on_change(control: Any, name: str, call: Callable[[], None]) -> None:
    """Calls a function without arguments where a control's property changes."""
    control.on_change(name, lambda attr, old, new: call())


class Pace:
    """How many steps a frame takes at a speed in steps a second."""

    def __init__(self, speed: str = "50"):
        self.speed = speed
        self._owed = 0.0
        self._batch = 8.0
        self._taken = 1

    def due(self, elapsed: float) -> int:
        """Steps to take now, `elapsed` seconds after the last frame.

        A frame that came late, as the machine was busy, doesn't make the next ones
        later still. No speed asks for more steps than fit into a frame.
        """
        fits = max(int(self._batch), 1)
        if self.speed == FASTEST:
            return fits
        number = float(self.speed.replace("k", "e3"))
        self._owed = min(self._owed + number * min(elapsed, 0.25), number)
        due = min(int(self._owed), fits)
        self._owed -= due
        return due

    def took(self, num_steps: int, seconds: float) -> None:
        """Learns how many steps fit into a frame, from the time to ask for some.

        Those of the next frame are at most a third more than these.
        """
        if num_steps:
            self._taken = num_steps
            more = min(max(BUSY_S / max(seconds, 1e-6), 0.25), 1.3)
            self._batch = min(more * num_steps + 1, 1e7)

    def lasted(self, seconds: float) -> None:
        """The last steps took so long that a frame had to wait for them."""
        self._batch = max(self._taken * PERIOD_MS / 1000 / seconds, 1.0)


class Tab(abc.ABC):
    """One thing to play with: what is learned, how it is drawn, and its controls.

    Args:
      single: names of the buttons that go on by one of something, and what they do.
      unit: of which the speed is so many a second.
      speed: at first, one of `SPEEDS`.
    """

    title: ClassVar[str]
    """On the tab."""

    def __init__(
        self,
        single: dict[str, Callable[[], None]],
        *,
        unit: str = "steps",
        speed: str = "50",
    ):
        self.playing = False
        self._asked = 0.0
        self.pace = Pace(speed)
        self.notify: Callable[[], None] = lambda: None
        self._play = self._button("▶ play", self.toggle, "primary")
        singles = [
            self._button(name, self._paused_first(call))
            for name, call in single.items()
        ]
        again = self._button("↺ reset", self.guarded(self.reset))
        self.buttons = row(self._play, *singles, again)
        self.speed = CategoricalSlider(
            title=f"{unit} a second",
            categories=SPEEDS,
            value=speed,
            width=250,
            stylesheets=[sheet()],
        )
        on_change(self.speed, "value", self._set_speed)
        self.seed = Spinner(title="seed", low=0, high=LARGEST_SEED, value=0, width=90)
        self.seed.stylesheets = [sheet()]
        on_change(self.seed, "value", self.guarded(self.reset))
        self.numbers = text(width=1200)
        self.notice = text(width=780)
        self.root = column(self.numbers, self.notice)
        self.shown: list[Any] = []
        """The plots, and whatever works without Python: what a recording shows."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Starts anew, with what the controls say."""

    @abc.abstractmethod
    def advance(self, num_steps: int) -> None:
        """Goes on by so many steps."""

    def settle(self) -> None:  # noqa: B027 (nothing to wait for, unless a tab says so)
        """Waits for the steps that are being taken, before they are drawn."""

    @abc.abstractmethod
    def draw(self) -> None:
        """Shows how things stand."""

    def toggle(self) -> None:
        """Plays, or pauses."""
        self.play(not self.playing)

    def play(self, playing: bool) -> None:
        """Plays, or stands still."""
        was_playing, self.playing = self.playing, playing
        if was_playing and not playing:
            self.guarded(self.draw)()  # the steps that were taken since the last frame
        self._play.label = "❚❚ pause" if playing else "▶ play"
        self.notify()

    def frame(self, elapsed: float) -> None:
        """Draws the steps that were taken since the last frame, and asks for more.

        JAX takes them while the page sends the drawing and waits for the next frame.
        """
        asked = time.perf_counter()
        self.settle()
        if (now := time.perf_counter()) - asked > READY_S:
            self.pace.lasted(now - self._asked)
        num_steps = self.pace.due(elapsed)
        if num_steps:
            self.draw()
            self._asked = time.perf_counter()
            self.advance(num_steps)
            self.pace.took(num_steps, time.perf_counter() - self._asked)

    def step_to_record(self, num_steps: int) -> None:
        """Takes so many steps and draws everything, for a recording."""
        if num_steps:
            self.advance(num_steps)
        self.draw()

    def number_of_seed(self) -> int:
        """The seed, from the page."""
        return int(bounded(self.seed.value, 0, LARGEST_SEED, 0))

    def say(self, words: str = "") -> None:
        """Shows a notice, or none."""
        words = words.replace("&", "&amp;").replace("<", "&lt;")
        self.notice.text = f'<span class="notice">{words}</span>' if words else ""

    def guarded(self, call: Callable[[], None]) -> Callable[[], None]:
        """The call; what is wrong with its arguments is said on the page."""

        def guarded():
            try:
                call()
            except (TypeError, ValueError) as error:
                self.play(False)
                self.say(str(error))

        return guarded

    def _paused_first(self, call):
        def paused_first():
            self.play(False)
            self.guarded(call)()

        return paused_first

    def _button(self, label: str, call: Any, kind: Any = "default"):
        button = Button(label=label, button_type=kind, width=95)
        button.on_click(call)
        return button

    def _set_speed(self):
        self.pace.speed = chosen(self.speed.value, SPEEDS)


class Page:
    """All tabs in a document. The clock ticks while the tab that is seen plays.

    Args:
      document: a visitor's.
      kinds: the tabs' classes; a tab is made when it is first seen.
    """

    def __init__(self, document: Document, kinds: Sequence[type[Tab]]):
        self._document, self._kinds = document, kinds
        self._made: dict[int, Tab] = {}
        self._ticking: Any = None
        self._last = 0.0
        self._places: Any = [column(text("…")) for _ in kinds]
        panels: Any = [
            TabPanel(child=place, title=kind.title)
            for place, kind in zip(self._places, kinds, strict=True)
        ]
        self._view = Tabs(tabs=panels, stylesheets=[sheet()])
        on_change(self._view, "active", self._show)
        document.title = "rljax lab"
        self._view.stylesheets.append(GlobalInlineStyleSheet(css=PAGE_CSS))
        self._show()
        document.add_root(self._view)

    def _show(self):
        """Makes the tab that is seen, if it is seen for the first time."""
        if (place := self._place) not in self._made:
            tab = self._made[place] = self._kinds[place]()  # pyright: ignore[reportCallIssue]
            tab.notify = self._start_or_stop
            self._places[place].children = [tab.root]
        self._start_or_stop()

    @property
    def _place(self) -> int:
        return int(bounded(self._view.active, 0, len(self._kinds) - 1, 0))

    @property
    def _seen(self) -> Tab:
        return self._made[self._place]

    def _start_or_stop(self):
        if self._seen.playing and self._ticking is None:
            self._last = time.perf_counter()
            self._ticking = self._document.add_periodic_callback(self._tick, PERIOD_MS)
        elif not self._seen.playing and self._ticking is not None:
            self._document.remove_periodic_callback(self._ticking)
            self._ticking = None

    def _tick(self):
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        tab = self._seen
        if tab.playing:
            tab.guarded(lambda: tab.frame(elapsed))()
