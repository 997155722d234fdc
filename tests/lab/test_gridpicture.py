"""The picture of a grid: what stands where, which way it points, and how it is shaded.

Nothing is learned here, and no browser is opened.
"""

import numpy as np
import pytest

from rljax.envs.gridmaps import ARROWS
from rljax.lab import gridpicture, page
from rljax.lab.gridpicture import GridPicture

WAYS = {"↑": (0, 1), "↓": (0, -1), "←": (-1, 0), "→": (1, 0)}
MAP = ("A.#", "P.G")
ACTS = [0, 1, 4]  # nobody acts in walls, goals and pits


def picture_of(*rows):
    picture = GridPicture(300)
    picture.show_map(rows)
    return picture


def columns(source, *names):
    return np.stack([np.asarray(source.data[name], float) for name in names], -1)


def ways(source):
    """Where triangles point; one without an angle points up, angles turn it left."""
    (angles,) = columns(source, "angle").T
    return np.stack([-np.sin(angles), np.cos(angles)], -1)


def shades(mapper):
    return mapper.low, mapper.high


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4), (50, 2)])
def test_the_map_is_in_the_middle_and_its_cells_are_square(shape):
    rows, width = shape
    plot = picture_of(*["." * width] * rows).plot
    assert plot.width == plot.height - 24 == 300  # the title takes 24
    # Cell 0 is at the upper left, and the last one ends at (width, −rows).
    for axis, middle in ((plot.x_range, width / 2), (plot.y_range, -rows / 2)):
        assert (axis.start + axis.end) / 2 == pytest.approx(middle)
        assert axis.end - axis.start == max(rows, width)


@pytest.mark.parametrize("rows", [2, 5, 20])
def test_what_stands_in_a_cell_is_in_proportion_to_it(rows):
    """Triangles as wide as a fifth or a quarter of a cell; the agent is seen anyway."""
    picture = picture_of(*["." * 2] * rows)
    cell = 300 / rows  # pixels
    assert picture._four.glyph.size == pytest.approx(0.21 * cell)
    assert picture._best.glyph.size == pytest.approx(0.28 * cell)
    assert picture._spot.glyph.size == pytest.approx(max(0.28 * cell, 7))


def test_cells_stand_in_their_rows_with_colour_and_letter():
    cells = picture_of(*MAP)._cells
    x, y = [0.5, 1.5, 2.5] * 2, [-0.5] * 3 + [-1.5] * 3
    np.testing.assert_allclose(columns(cells, "x", "y"), np.stack([x, y], -1))
    assert cells.data["letter"] == ["A", "", "", "P", "", "G"]
    start, free, wall, pit, *_, goal = cells.data["color"]
    assert cells.data["color"][4] == free
    assert len({start, free, wall, pit, goal}) == 5
    assert goal == page.GOLD
    assert free.endswith("00")  # what is known shows through


def test_each_arrow_points_out_of_its_cell_to_where_its_action_leads():
    arrows = picture_of(*MAP)._arrows
    middles = np.array([(0.5, -0.5), (1.5, -0.5), (1.5, -1.5)])
    places = columns(arrows, "x", "y").reshape(6, 4, 2)
    away = places[ACTS] - middles[:, None]
    pointed = ways(arrows).reshape(6, 4, 2)
    for action, sign in enumerate(ARROWS):
        np.testing.assert_allclose(pointed[:, action], [WAYS[sign]] * 6, atol=1e-9)
        distance = np.linalg.norm(away[:, action], axis=-1)
        np.testing.assert_allclose(
            away[:, action], distance[:, None] * WAYS[sign], atol=1e-9
        )
        assert (distance > 0.2).all() and (distance < 0.4).all()
    assert np.isnan(places[[2, 3, 5]]).all()


def test_the_shades_are_of_the_cells_where_one_acts():
    picture = picture_of(*MAP)
    q_values = np.arange(24.0).reshape(6, 4)
    q_values[5], q_values[2] = 1e6, -1e6  # the goal's and the wall's
    picture.show_values(q_values)
    np.testing.assert_array_equal(picture._arrows.data["q"], q_values.ravel())
    assert shades(picture._shades) == (0.0, 19.0)
    picture.show_values(np.full((6, 4), 3.0))
    low, high = shades(picture._shades)
    assert low == 3.0 and 0 < high - low < 1e-6  # a scale has two ends


def test_a_large_map_has_one_shade_a_cell():
    width = gridpicture.MOST_ARROWS + 1
    small = picture_of("A" + "." * (width - 3) + "G")
    picture = picture_of("A" + "." * (width - 2) + "G")
    assert (small._four.visible, small._one.visible) == (True, False)
    assert (picture._four.visible, picture._one.visible) == (False, True)
    q_values = np.random.default_rng(0).uniform(size=(width, 4))
    picture.show_values(q_values)
    best = q_values.max(-1)
    np.testing.assert_array_equal(picture._arrows.data["q"], best)
    np.testing.assert_allclose(
        columns(picture._arrows, "x", "y")[:-1],
        [(i + 0.5, -0.5) for i in range(width - 1)],
    )
    assert shades(picture._shades) == (best[:-1].min(), best[:-1].max())


def test_what_is_exact_is_shaded_and_points_its_way():
    picture = picture_of(*MAP)
    values = np.array([0.5, 0.75, 9.0, -9.0, 1.0, 8.0])
    policy = np.array([3, 1, 0, 0, 3, 2])
    picture.set_exact(values, policy)
    known = picture._known
    np.testing.assert_allclose(
        columns(known, "x", "y", "v"),
        [(0.5, -0.5, 0.5), (1.5, -0.5, 0.75), (1.5, -1.5, 1.0)],
    )
    np.testing.assert_allclose(ways(known), [WAYS[c] for c in "→↓→"], atol=1e-9)
    assert shades(picture._known_shades) == (0.5, 1.0)
    picture.set_exact(np.full(6, 2.0), policy)
    low, high = shades(picture._known_shades)
    assert low == 2.0 and 0 < high - low < 1e-6


def test_what_is_exact_is_seen_where_asked_for():
    picture = picture_of(*MAP)
    for shown in (False, True, False):  # not before it is asked for
        assert [glyph.visible for glyph in picture.exact_glyphs] == [shown] * 2
        picture.show_exact(not shown)


def test_the_walk_goes_through_the_middles_of_its_cells():
    picture = picture_of(*MAP)
    picture.show_walk([0, 1, 4], 3)
    middles = [(0.5, -0.5), (1.5, -0.5), (1.5, -1.5)]
    np.testing.assert_allclose(columns(picture._path, "x", "y"), middles)
    np.testing.assert_allclose(columns(picture._agent, "x", "y"), [(0.5, -1.5)])
    picture.show_walk([], None)
    for source in (picture._path, picture._agent):
        assert columns(source, "x", "y").shape == (0, 2)
    picture.show_walk([0, 1], 0)
    picture.show_map(MAP[::-1])  # nobody has walked on another map
    assert columns(picture._path, "x", "y").shape == (0, 2)
    assert columns(picture._agent, "x", "y").shape == (0, 2)
