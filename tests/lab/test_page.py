"""The page's clock, its tabs, and what it makes of whatever a browser sends."""

from typing import ClassVar

import numpy as np
import pytest
from bokeh.document import Document

from rljax.lab import page


class Counting(page.Tab):
    """Counts its steps."""

    title = "counting"
    made: ClassVar[list] = []

    def __init__(self):
        super().__init__({"one step": lambda: self.advance(1)})
        self.reset()
        self.made.append(self)

    def reset(self):
        self.count = 0
        if self.number_of_seed() == 13:
            raise ValueError("no <luck> with 13")

    def advance(self, num_steps):
        self.count += num_steps

    def draw(self):
        self.numbers.text = page.readouts({"steps": str(self.count)})


def press(tab, label):
    """What a click on a button calls."""
    for button in tab.buttons.children:
        if button.label.endswith(label):
            for call in button._event_callbacks["button_click"]:
                call(None) if call.__code__.co_argcount else call()
            return
    raise AssertionError(label)


@pytest.fixture
def shown():
    """A page whose two tabs have been seen, and its document."""
    Counting.made.clear()
    document = Document()
    view = page.Page(document, (Counting, Counting))
    assert len(Counting.made) == 1  # the other one when it is seen
    view._view.active = 1
    view._view.active = 0
    return view, document


@pytest.fixture
def tabs(shown):
    return list(Counting.made)


def test_the_clock_ticks_while_the_tab_that_is_seen_plays(tabs, shown):
    view, document = shown
    assert document.session_callbacks == []
    tabs[0].toggle()
    assert len(document.session_callbacks) == 1
    view._view.active = 1  # the other tab is paused
    assert document.session_callbacks == []
    view._view.active = 0
    assert len(document.session_callbacks) == 1
    tabs[0].toggle()
    assert document.session_callbacks == []
    view._view.active = 77  # no such tab: the last one
    tabs[1].toggle()
    assert len(document.session_callbacks) == 1


def test_frames_take_the_steps_that_are_due(tabs):
    tabs[0].toggle()
    for _ in range(100):
        tabs[0].frame(0.02)
    assert tabs[0].count == 100  # at 50 a second
    tabs[0].toggle()
    assert ">100<" in tabs[0].numbers.text
    assert tabs[1].count == 0


def test_a_single_step_pauses_and_reset_is_reset(tabs):
    tab = tabs[0]
    tab.toggle()
    press(tab, "one step")
    assert (tab.count, tab.playing) == (1, False)
    press(tab, "reset")
    assert tab.count == 0


def test_what_is_wrong_is_said_on_the_page(tabs):
    tab = tabs[0]
    tab.toggle()
    tab.seed.value = 13
    assert not tab.playing
    assert "no &lt;luck> with 13" in tab.notice.text
    tab.say()
    assert tab.notice.text == ""


def test_a_pace_gives_every_step_its_time():
    pace = page.Pace("50")

    def frames(number, elapsed):
        taken = 0
        for _ in range(number):
            taken += (steps := pace.due(elapsed))
            pace.took(steps, 1e-4)
        return taken

    assert frames(200, 0.01) == 100
    # After a long pause it doesn't make up for what it missed.
    assert frames(1, 3600.0) <= 13
    pace.speed = "2k"
    frames(20, 0.04)
    assert frames(10, 0.04) == 800


@pytest.mark.parametrize("speed", [page.FASTEST, "100k"])
def test_no_frame_takes_more_steps_than_fit_into_it(speed):
    pace = page.Pace(speed)
    per_step = 1e-4
    for _ in range(80):
        number = pace.due(0.04)
        pace.took(number, number * per_step)
    assert number == pytest.approx(page.BUSY_S / per_step, rel=0.02)
    pace.took(number, 100.0)  # much slower all at once
    assert pace.due(0.04) < number / 3


def test_steps_in_the_background_fill_a_frame():
    """A frame waits for those it asked for before; then they were too many."""
    pace, per_step = page.Pace(page.FASTEST), 1e-6
    lasting = []
    for _ in range(80):
        number = pace.due(0.04)
        pace.took(number, 1e-4)  # to ask for them takes no time
        lasting.append(number * per_step)
        if lasting[-1] > 0.04:
            pace.lasted(lasting[-1])
    assert max(lasting) < 0.055
    assert min(lasting[-20:]) > 0.035


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.5, 0.5),
        (-1, 0.0),
        (1e300, 1.0),
        (float("inf"), 1.0),
        (float("nan"), 0.25),
        ("0.5", 0.25),
        (None, 0.25),
        (True, 0.25),
        ([1], 0.25),
    ],
)
def test_numbers_from_the_page_are_bounded(value, wanted):
    assert page.bounded(value, 0.0, 1.0, 0.25) == wanted


@pytest.mark.parametrize("value", ["c", None, 3, ["a"]])
def test_choices_from_the_page_are_among_the_options(value):
    assert page.chosen(value, ["a", "b"]) == "a"
    assert page.chosen("b", ["a", "b"]) == "b"


def test_a_speed_that_there_is_not_is_the_slowest(tabs):
    pace = tabs[0].pace
    tabs[0].speed.update(categories=[*page.SPEEDS, "1e99"])
    tabs[0].speed.value = "1e99"
    assert pace.speed == "1"
    assert np.isfinite(pace.due(1.0))
