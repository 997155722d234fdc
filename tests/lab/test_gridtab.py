"""The tab of grids: what each control does, and where the walk's numbers are shown.

The walk itself is a stand-in with known answers, but in the last test: nothing is
compiled. What a real one answers is the matter of test_walks.py.
"""

import re

import numpy as np
import pytest
from bokeh.document import Document

from rljax.lab import gridworld, page, walks
from tests.lab import controls

ACTIONS = 4


class Told:
    """A walk that learns nothing and answers what can be computed by hand.

    V* is the discount less the slip in every cell; the others' J are 0, 0.01, … 1.
    """

    def __init__(self, grid, agent, rule, seed, settings, *, others):
        self.layout, self.agent, self.rule, self.seed = grid.layout, agent, rule, seed
        self.settings, self.with_others = settings, others
        self.num_cells = len("".join(grid.layout))
        self.q_values = np.arange(self.num_cells * ACTIONS).reshape(-1, ACTIONS)
        self.cell, self.total_reward, self.path = 1, -0.5, ([0, 1, 2], True)
        self.num_steps = self.num_episodes = self.steps_in_episode = 0
        self.own = 0.25

    def change(self, settings):
        self.settings = settings

    def advance(self, num_steps):
        self.num_steps += num_steps
        self.steps_in_episode += num_steps

    def finish_episode(self):
        self.advance(10)
        self.num_episodes, self.steps_in_episode = self.num_episodes + 1, 0

    def settle(self):
        self.settled = True

    def greedy_path(self):
        return self.path

    def exact(self):
        best = self.settings.discount - self.settings.slip
        values, policy = np.full(self.num_cells, best), np.zeros(self.num_cells, int)
        return walks.Exact(values, policy, best, 8)

    def expected_returns(self):
        return self.own, np.arange(101) / 100 if self.with_others else None


@pytest.fixture
def tab(monkeypatch):
    monkeypatch.setattr(walks, "Walk", Told)
    return page.Page(Document(), [gridworld.GridTab])._seen


def shown(tab):
    """The readouts by name."""
    found = re.findall(r"<b>(.*?)</b><span>(.*?)</span>", tab.numbers.text)
    return {name: value for value, name in found}


def draw_own(tab, *rows):
    """Chooses a map of one's own, and draws this one by clicks."""
    tab._map.value = gridworld.OWN
    tab._rows.value, tab._columns.value = len(rows), len(rows[0])
    for cell, kind in enumerate("".join(rows)):
        tab._brush.active = list(gridworld.BRUSHES.values()).index(kind)
        click(tab, cell)


def click(tab, cell):
    tab._picture.selected.indices = [cell]


# Settings.


def test_the_controls_start_with_the_usual_settings(tab):
    walk = tab.walk
    assert walk.settings == walks.Settings(0.3, 0.1, 0.99, 0.0)
    assert (walk.agent, walk.rule, walk.seed) == ("Q-learning", "ε-greedy", 0)
    assert walk.with_others
    assert walk.layout == walks.grid_named("GridWorld-7x7").layout


def test_each_slider_is_its_own_setting_and_acts_without_a_new_walk(tab):
    walk, expected = tab.walk, walks.Settings(0.3, 0.1, 0.99, 0.0)
    for name, value in (
        ("explore", 0.7),
        ("step_size", 0.6),
        ("discount", 0.8),
        ("slip", 0.4),
    ):
        getattr(tab, f"_{name}").value = value
        expected = expected._replace(**{name: value})
        assert walk.settings == expected
    assert tab.walk is walk


def test_sliders_are_bounded_here_too(tab):
    controls.assert_all_can_be_moved(tab)
    for name, low, high, usual in (
        ("explore", 0.0, 1.0, 0.3),
        ("step_size", 0.01, 1.0, 0.1),
        ("discount", 0.5, 0.999, 0.99),
        ("slip", 0.0, 1.0, 0.0),
    ):
        slider = getattr(tab, f"_{name}")
        assert (slider.start, slider.end, slider.value) == (low, high, usual)
        for wild, bounded in ((-1e30, low), (1e30, high), (float("nan"), usual)):
            slider.value = wild
            assert getattr(tab.walk.settings, name) == bounded


def test_whatever_slider_moves_what_is_seen_is_drawn_anew(tab):
    for number, name in enumerate(("explore", "step_size", "discount", "slip")):
        tab.walk.num_steps = 1000 + number
        getattr(tab, f"_{name}").value = 0.75
        assert shown(tab)["steps in all"] == f"1,00{number}"


def test_what_is_exact_moves_with_discount_and_slip(tab):
    def exact():
        values = set(np.asarray(tab._picture._known.data["v"]).tolist())
        assert len(values) == 1
        assert shown(tab)["J(π*)"] == f"{next(iter(values)):.4f}"
        assert tab._best.data["y"] == [*values] * 2
        return next(iter(values)), len(tab._returns.data["x"])

    assert exact() == (0.99, 1)
    tab._discount.value = 0.75
    assert exact() == (0.75, 2)  # and a point of the curves, at the new settings
    tab._slip.value = 0.5
    assert exact() == (0.25, 3)
    tab._step_size.value = 0.5
    assert exact() == (0.25, 3)


# Who learns, and where.


def test_another_agent_rule_or_seed_starts_anew(tab):
    for control, value, name in (
        (tab._agent, "Sarsa", "agent"),
        (tab._rule, "UCB", "rule"),
        (tab.seed, 7, "seed"),
    ):
        tab._go_on(5)
        before = tab.walk
        assert shown(tab)["steps in all"] == "5"
        control.value = value
        assert tab.walk is not before
        assert getattr(tab.walk, name) == value
        assert shown(tab)["steps in all"] == "0"
        assert len(tab._returns.data["x"]) == 1
    assert (tab.walk.agent, tab.walk.rule, tab.walk.seed) == ("Sarsa", "UCB", 7)


def test_a_rule_sets_the_slider_of_its_number(tab):
    slider = tab._explore
    for name, rule in reversed(walks.RULES.items()):
        tab._rule.value = name
        assert slider.title == rule.symbol
        assert (slider.start, slider.end) == (rule.low, rule.high)
        assert slider.value == tab.walk.settings.explore == rule.start
        slider.value = 1e30
        assert tab.walk.settings.explore == rule.high


def test_the_others_learn_along_where_asked_for(tab):
    assert tab._others.label == "100 other seeds learn along"
    tab._go_on(3)
    band = {name: list(column) for name, column in tab._band.data.items()}
    steps = [0, 3]
    assert band["x"] == steps
    for name, quantile in (("low", 0.05), ("middle", 0.5), ("high", 0.95)):
        np.testing.assert_allclose(band[name], [quantile] * 2)
    tab._others.active = False
    assert not tab.walk.with_others
    assert all(len(column) == 0 for column in tab._band.data.values())


def test_a_map_comes_with_its_own_slip(tab):
    for name in reversed(gridworld.MAPS):
        tab._map.value = name
        grid = walks.grid_named(name)
        assert tab.walk.layout == tab._picture.layout == grid.layout
        slip = 0.0 if grid.slip is None else grid.slip
        assert tab.walk.settings.slip == pytest.approx(slip, abs=0.005)
        assert not tab._sizes.visible


def test_what_a_page_sends_is_among_the_choices(tab):
    for control in (tab._map, tab._agent, tab._rule):
        control.options = [*control.options, "<script>"]
        control.value = "<script>"
    walk = tab.walk
    assert (walk.agent, walk.rule) == ("Q-learning", "ε-greedy")
    assert walk.layout == walks.grid_named("GridWorld-7x7").layout
    tab._picture.selected.indices = [10**9]
    assert tab._picture.layout[-1][-1] == "#"  # the last cell, by the brush at first


# A map of one's own.


def test_a_map_of_ones_own_starts_as_the_one_that_was_seen(tab):
    tab._map.value = "GridWorld-5x5"
    before = tab._picture.layout
    assert not tab._sizes.visible
    tab._map.value = gridworld.OWN
    assert tab._picture.layout == tab.walk.layout == before
    assert tab._sizes.visible


def test_its_size_is_from_2_to_50_rows_and_columns(tab):
    for spinner, title in ((tab._rows, "rows"), (tab._columns, "columns")):
        assert spinner.title == title
        assert (spinner.low, spinner.high, spinner.value) == (2, 50, 7)
    before = tab._picture.layout
    tab._columns.value = 3  # of another map nothing changes
    assert tab._picture.layout == before
    tab._map.value = gridworld.OWN
    tab._rows.value = 2
    assert tab.walk.layout == tab._picture.layout == ("A..", "..G")
    for wild, number in ((1e30, 50), (-1e30, 2), (None, 7)):
        tab._rows.value = wild
        assert len(tab.walk.layout) == number
        assert {len(row) for row in tab.walk.layout} == {3}


def test_clicks_paint_cells_and_there_is_one_start(tab):
    drawn = ("GA.#", "PC..")
    draw_own(tab, *drawn)
    assert tab.walk.layout == tab._picture.layout == drawn
    assert tab._picture.selected.indices == []  # to be clicked again
    tab._brush.active = list(gridworld.BRUSHES).index("start")
    click(tab, 6)
    assert tab._picture.layout == ("G..#", "PCA.")
    tab._brush.active = 10**9  # no such brush: the last one
    click(tab, 7)
    assert tab._picture.layout == ("G..#", "PC.A")


def test_a_click_on_a_named_map_makes_it_ones_own(tab):
    tab._map.value = "GridWorld-5x5"
    before = "".join(tab._picture.layout)
    tab.play(True)
    tab._brush.active = list(gridworld.BRUSHES).index("goal")
    click(tab, 2)
    assert tab._map.value == gridworld.OWN and not tab.playing
    assert "".join(tab._picture.layout) == before[:2] + "G" + before[3:]
    tab._map.value = "GridWorld-5x5"
    assert "".join(tab._picture.layout) == before


def test_a_map_that_lacks_something_is_seen_and_said(tab):
    tab._map.value = gridworld.OWN
    tab._rows.value = tab._columns.value = 2
    tab._brush.active = list(gridworld.BRUSHES).index("wall")
    click(tab, 3)  # the goal
    assert tab._picture.layout == ("A.", ".#")
    assert "goal" in tab.notice.text
    assert tab.walk is None
    tab._slip.value = 0.5  # of which nobody learns
    with pytest.raises(ValueError, match="Nobody can learn on this map yet"):
        tab._go_on(1)
    tab._brush.active = list(gridworld.BRUSHES).index("goal")
    click(tab, 1)
    assert tab.walk.layout == ("AG", ".#")
    assert tab.notice.text == ""
    assert tab.walk.settings.slip == 0.5


# What is shown.


def test_the_numbers_are_the_walk_s(tab):
    tab.walk.total_reward = 1234.567
    tab.walk.advance(4321)
    tab.walk.num_episodes = 41
    tab.draw()
    assert shown(tab) == {
        "episode": "42",
        "step of it": "4,321",
        "steps in all": "4,321",
        "total reward": "1,234.57",
        "best path (shortest: 8)": "2",
        "J of the greedy policy, exact": "0.2500",
        "J(π*)": "0.9900",
    }
    picture = tab._picture
    assert list(picture._path.data["x"]) == [0.5, 1.5, 2.5]
    assert picture._agent.data == {"x": [1.5], "y": [-0.5]}
    np.testing.assert_array_equal(picture._arrows.data["q"], tab.walk.q_values.ravel())
    tab.walk.path = [0, 1], False  # which leads to no goal
    tab.draw()
    assert shown(tab)["best path (shortest: 8)"] == "–"
    assert len(picture._path.data["x"]) == 0


def test_buttons_go_on_by_a_step_or_to_the_end_of_the_episode(tab):
    buttons = {button.label: button for button in tab.buttons.children}
    for label, steps, episode in (
        ("one step", 1, "1"),
        ("one episode", 11, "2"),
        ("one step", 12, "2"),
    ):
        for call in buttons[label]._event_callbacks["button_click"]:
            call()
        assert shown(tab)["steps in all"] == str(steps)
        assert shown(tab)["episode"] == episode
        assert tab._returns.data["x"][-1] == steps  # a point of the curves at once


def test_curves_are_judged_now_and_then_and_are_bounded(tab, monkeypatch):
    now = 100.0
    monkeypatch.setattr(gridworld.time, "monotonic", lambda: now)
    tab.reset()
    for later in (100.1, 100.4, 100.6, 100.7, 101.2):
        now = later
        tab.walk.own = later
        tab.advance(1)
        tab.settle()
        tab.draw()
    assert tab.walk.settled
    assert list(tab._returns.data["x"]) == [0, 3, 5]
    np.testing.assert_allclose(tab._returns.data["y"], [0.25, 100.6, 101.2])
    assert tab._best.data == {"x": [0, 5], "y": [0.99, 0.99]}
    monkeypatch.setattr(gridworld, "MOST_POINTS", 10)
    for _ in range(12):
        tab.step_to_record(2)
    assert list(tab._returns.data["x"]) == list(range(11, 30, 2))
    assert tab._best.data["x"] == [11, 29]  # as far as the curve that is left
    assert len(tab._band.data["low"]) == 10


def test_every_curve_is_drawn_from_its_source(tab):
    band, *lines = tab._curves.renderers
    assert band.data_source is tab._band
    assert (band.glyph.x, band.glyph.y1, band.glyph.y2) == ("x", "low", "high")
    for line, source, y, color in zip(
        lines,
        (tab._band, tab._returns, tab._best),
        ("middle", "y", "y"),
        (page.SKY, page.BLUE, page.ORANGE),
        strict=True,
    ):
        assert line.data_source is source
        assert (line.glyph.x, line.glyph.y, line.glyph.line_color) == ("x", y, color)
    labels = [item.label.value for item in tab._curves.legend[0].items]
    assert labels == ["9 of 10 other seeds", "their median", "this agent", "J(π*)"]


def test_the_overlay_works_without_python(tab):
    # In a recording there is none: the browser links the box to what it shows.
    calls = tab._overlay.js_property_callbacks["change:active"]
    linked = [call.args["other"] for call in calls]
    assert linked == list(tab._picture.exact_glyphs)
    assert not tab._overlay.active


@pytest.mark.slow
def test_a_real_walk_is_shown_as_it_is():
    tab = page.Page(Document(), [gridworld.GridTab])._seen
    tab._map.value = "GridWorld-5x5"
    tab._step_size.value = 0.5
    tab._discount.value = 0.9
    tab._go_on(3000)
    settings = walks.Settings(0.3, 0.5, 0.9, 0.0)
    same = walks.Walk(walks.grid_named("GridWorld-5x5"), settings=settings)
    same.advance(3000)
    np.testing.assert_array_equal(
        tab._picture._arrows.data["q"], same.q_values.ravel().astype(float)
    )
    # 7 steps of −0.01 and the goal.
    best = 0.9**7 - 0.01 * sum(0.9**k for k in range(7))
    assert float(shown(tab)["J(π*)"]) == pytest.approx(best, abs=1e-4)
    own, others = same.expected_returns()
    assert shown(tab)["J of the greedy policy, exact"] == f"{own:.4f}"
    assert shown(tab)["best path (shortest: 8)"] == str(len(same.greedy_path()[0]) - 1)
    assert tab._band.data["middle"][-1] == pytest.approx(np.median(others))
