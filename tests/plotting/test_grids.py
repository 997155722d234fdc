"""Grids: values and actions stand where their cells are; exact regret beside them."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import rljax
from rljax import planning, plotting, regret
from rljax.envs import pictures
from rljax.experiment import statistics

GRID = rljax.GridWorld(("A#", ".G"))
PLAN = planning.value_iteration(GRID.to_mdp(), 0.9)
Q_VALUES = np.zeros((4, 4))
Q_VALUES[0, 3], Q_VALUES[2, 0] = 2.0, 3.0
ARROWS = "↑↓←→"
NUM_UPDATES = np.array([0, 1, 2])


@pytest.fixture
def curve():
    greedy, behaviour = np.random.default_rng(0).uniform(0, 1, (2, 5, 3))
    return regret.ExactReturns(NUM_UPDATES, greedy, behaviour, np.full(5, 1.0))


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def check_cells(axes, actions, values):
    """Arrows and numbers of the two cells where one acts, a wall, and a goal."""
    first, second = (ARROWS[int(action)] for action in actions)
    expected = [first, f"{values[0]:.2f}", "", second, f"{values[1]:.2f}", "G"]
    assert texts_of(axes) == expected
    places = [text.get_position() for text in axes.texts]
    np.testing.assert_allclose(
        np.round(places), [(0, 0), (0, 0), (1, 0), (0, 1), (0, 1), (1, 1)]
    )
    shown = axes.images[0].get_array()
    np.testing.assert_array_equal(shown.mask, [[False, True], [False, True]])
    np.testing.assert_allclose(shown.compressed(), values, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "actions", "values"),
    [
        ((PLAN,), PLAN.policy[jnp.array([0, 2])], (0.89, 1.0)),
        ((Q_VALUES,), (3, 0), (2.0, 3.0)),
        ((np.arange(4.0), np.array([2, 0, 1, 0])), (2, 1), (0.0, 2.0)),
        ((Q_VALUES, np.array([2, 0, 1, 0])), (2, 1), (2.0, 3.0)),
    ],
    ids=["plan", "q_values", "values and policy", "q_values and policy"],
)
@pytest.mark.parametrize("grid", [GRID, rljax.TimeLimit(GRID, 9)])
def test_values_and_actions_stand_in_their_cells(grid, arguments, actions, values):
    (axes,) = plotting.gridworld(grid, *arguments).axes
    check_cells(axes, actions, values)


def test_values_alone_have_no_arrows():
    (axes,) = plotting.gridworld(GRID, np.arange(4.0)).axes
    assert texts_of(axes) == ["", "0.00", "", "", "2.00", "G"]


def test_cells_where_nobody_acts_have_the_colours_of_render():
    grid = rljax.GridWorld(("A.#", "P.G"))
    (axes,) = plotting.gridworld(grid, np.arange(6.0)).axes
    filled = {tuple(p.get_xy()): p.get_facecolor() for p in axes.patches if p.fill}
    for corner, color in (
        ((1.5, -0.5), pictures.INK),
        ((-0.5, 0.5), pictures.DANGER),
        ((1.5, 0.5), pictures.GOLD),
    ):
        assert filled.pop(corner)[:3] == to_rgb(color)
    assert not filled
    (frame,) = (patch for patch in axes.patches if not patch.fill)
    assert frame.get_edgecolor()[:3] == to_rgb("#d55e00")
    assert frame.get_bbox().contains(0, 0)
    letters = [text for text in texts_of(axes) if text.isalpha()]
    assert letters == ["P", "G"]


def test_a_higher_value_is_darker_and_its_letters_light():
    grid = rljax.GridWorld(("A..G",))
    (axes,) = plotting.gridworld(grid, np.array([0.0, 1.0, 2.0, 9.0])).axes
    (image,) = axes.images
    lightness = [sum(image.cmap(image.norm(x))[:3]) for x in (0.0, 1.0, 2.0)]
    assert lightness[0] > lightness[1] > lightness[2]
    # The goal's 9 is no value of a cell where one acts.
    assert image.get_clim() == (0.0, 2.0)
    colors = [t.get_color() for t in axes.texts if t.get_text() in ("0.00", "2.00")]
    assert colors == ["black", "white"]
    (axes,) = plotting.gridworld(grid, np.arange(4.0), limits=(-5, 5)).axes
    assert axes.images[0].get_clim() == (-5, 5)


def test_infinite_values_have_no_colour():
    grid = rljax.GridWorld(("A..G",))
    (axes,) = plotting.gridworld(grid, np.array([-np.inf, 1.0, 2.0, 0.0])).axes
    (image,) = axes.images
    assert image.get_clim() == (1.0, 2.0)
    np.testing.assert_array_equal(image.get_array().mask, [[True, False, False, True]])


@pytest.mark.parametrize(("text", "bars"), [("A" + "." * 8 + "G", 1), ("A.G", 0)])
def test_a_large_grid_has_a_bar_of_colours_in_the_place_of_numbers(drawn, text, bars):
    grid = rljax.GridWorld((text,))
    zeros = np.zeros(len(text))
    plan = PLAN._replace(
        values=zeros, q_values=np.zeros((len(text), 4)), policy=zeros.astype(int)
    )
    ones = np.ones((2, 3))
    curve = regret.ExactReturns(NUM_UPDATES, ones, ones, np.ones(2))
    arguments = grid, plan, plan.q_values, np.arange(3), curve
    _, saved = drawn(plotting.save_gridworld, *arguments, title="")
    for panels, number in ((saved, 3), (plotting.gridworld(grid, plan).axes, 1)):
        assert len(panels) == number + bars
        numbers = [text for text in texts_of(panels[0]) if "." in text]
        assert len(numbers) == (0 if bars else 2)


def test_letters_fit_into_cells_of_any_size():
    for columns in (3, 8, 40):
        grid = rljax.GridWorld(("A" + "." * (columns - 2) + "G",))
        figure = plotting.gridworld(grid, np.zeros((columns, 4)))
        figure.draw_without_rendering()
        axes = figure.axes[0]
        cell = axes.get_window_extent().width / columns
        widths = [text.get_window_extent().width for text in axes.texts]
        assert max(widths) < cell


def open_grid(rows, columns):
    text = list("." * (rows * columns))
    text[0], text[-1] = "A", "G"
    return rljax.GridWorld(tuple(map("".join, np.reshape(text, (rows, columns)))))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        # Cells are 0.75 inches wide, or as wide as a longer side of 8 inches lets them.
        ((4, 6), (4.7, 3.2)),
        ((1, 2), (2.2, 1.2)),  # no panel is smaller
        ((16, 5), (2.7, 8.2)),
        ((3, 40), (8.2, 1.2)),
    ],
)
def test_a_figure_is_as_large_as_its_grid(shape, size):
    figure = plotting.gridworld(open_grid(*shape), np.zeros(math.prod(shape)))
    assert tuple(figure.get_size_inches()) == pytest.approx(size)


@pytest.mark.parametrize("shape", [(1, 8), (2, 40), (8, 2), (40, 2)])
def test_letters_are_in_proportion_to_their_cells(shape):
    figure = plotting.gridworld(open_grid(*shape), np.zeros((math.prod(shape), 4)))
    figure.draw_without_rendering()
    (axes, *_), points = figure.axes, 72 / figure.dpi
    cell = axes.get_window_extent().width / shape[1] * points
    assert axes.get_window_extent().height / shape[0] * points == pytest.approx(cell)
    sizes = {text.get_fontsize() for text in axes.texts if text.get_text() in "↑G"}
    (size,) = sizes
    assert size == pytest.approx(min(15, 0.28 * cell), rel=0.1)


@pytest.mark.parametrize("columns", [3, 8])
def test_arrows_and_numbers_can_be_read_beside_each_other(columns):
    grid = rljax.GridWorld(("A" + "." * (columns - 2) + "G",) * 2)
    figure = plotting.gridworld(grid, np.full((2 * columns, 4), -8.88))
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    assert len(texts) == 2 * (2 * (columns - 1) + 1)
    assert min(text.get_fontsize() for text in texts) > 6
    boxes = [text.get_window_extent() for text in texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    # An arrow is above the number of its cell.
    for text in texts:
        x, y = text.get_position()
        if text.get_text() in ARROWS:
            assert (round(x), round(y) + 0.5) > (x, y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": rljax.CartPole()}, "grid must be a GridWorld, such as rljax.make"),
        ({"values": np.zeros(3)}, r"V \[4\] or Q \[4, 4\], got shape \(3,\)"),
        ({"values": "x"}, "values must be real numbers, got 'x'"),
        ({"policy": np.zeros(4)}, r"policy must be \[4\] integers"),
        ({"policy": np.full(4, 4)}, r"actions in \[0, 4\), got 4 in cell 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    usual = {"grid": GRID, "values": np.zeros(4)}
    with pytest.raises((TypeError, ValueError), match=message):
        plotting.gridworld(**{**usual, **arguments})


# Exact regret.


def test_exact_regret_is_the_mean_over_seeds(
    curve, names_of, legend_of, line_named, band_of
):
    (axes,) = plotting.exact_regret(curve, steps_per_update=7).axes
    for i, (name, values) in enumerate(
        (("behaviour", curve.behaviour), ("greedy", curve.greedy))
    ):
        found = line_named(axes, f"{name} policy, mean")
        np.testing.assert_array_equal(found[:, 0], 7 * NUM_UPDATES)
        np.testing.assert_allclose(found[:, 1], (1 - values).mean(0))
        ends = statistics.mean_interval(1 - values)[1:]
        np.testing.assert_allclose(band_of(axes, i)[1:], ends)
    middle = np.quantile(1 - curve.greedy, [0.05, 0.95], axis=0)
    np.testing.assert_allclose(band_of(axes, 2)[1:], middle)
    assert names_of(axes)[-1] == "greedy, middle 90 % of seeds"
    assert legend_of(axes) == names_of(axes)
    assert axes.get_xlabel() == "environment steps per seed"
    assert axes.get_xlim() == (0, 14)


def test_exact_regret_takes_what_training_returns(curve, line_named):
    # Under vmap over seeds, the numbers of updates have an axis of seeds too.
    vmapped = curve._replace(num_updates=np.stack([NUM_UPDATES] * 5))
    (axes,) = plotting.exact_regret(vmapped).axes
    found = line_named(axes, "greedy policy, mean")
    np.testing.assert_array_equal(found[:, 0], NUM_UPDATES)
    one = jax.tree.map(lambda x: x[0], vmapped)
    (axes,) = plotting.exact_regret(one).axes
    found = line_named(axes, "greedy policy")
    np.testing.assert_allclose(found[:, 1], 1 - curve.greedy[0])
    assert axes.get_xlabel() == "updates"


def test_a_cliff_found_at_first_does_not_flatten_the_rest():
    behaviour = np.ones((3, 21))
    behaviour[:, 0] = -1e4
    greedy = np.full((3, 21), 0.5)
    curve = regret.ExactReturns(np.arange(21), greedy, behaviour, np.full(3, 2.0))
    (axes,) = plotting.exact_regret(curve).axes
    assert axes.get_ylim() == (0, pytest.approx(1.15 * 1.5))


def test_regret_of_something_else_is_refused(curve):
    with pytest.raises(TypeError, match="curve must be a ExactReturns, such as"):
        plotting.exact_regret(curve.greedy)
    with pytest.raises(ValueError, match="steps_per_update must be at least 1, got 0"):
        plotting.exact_regret(curve, steps_per_update=0)


# Both in a file.


def test_a_grid_is_saved_with_both_policies_and_the_regret(
    drawn, curve, names_of, legend_of, line_named
):
    steps = np.array([0, 10, 20])
    figure, axes = drawn(
        plotting.save_gridworld, GRID, PLAN, Q_VALUES, steps, curve, title="a title"
    )
    assert figure.get_suptitle() == "a title"
    planned, learned, regrets = axes  # each value is in its cell: no bar of colours
    check_cells(learned, (3, 0), (2.0, 3.0))
    check_cells(planned, PLAN.policy[jnp.array([0, 2])], (0.89, 1.0))
    # One scale for both, the planned one.
    assert learned.images[0].get_clim() == planned.images[0].get_clim()
    assert legend_of(regrets) == names_of(regrets)
    for name, values in (("greedy", curve.greedy), ("behaviour", curve.behaviour)):
        found = line_named(regrets, f"{name} policy, mean")
        np.testing.assert_array_equal(found[:, 0], steps)
        np.testing.assert_allclose(found[:, 1], (1 - values).mean(0))


def test_a_saved_grid_needs_an_axis_of_seeds_and_one_step_for_each_point(drawn, curve):
    one = jax.tree.map(lambda x: x[0], curve)
    alone = jax.tree.map(lambda x: x[:1], curve)
    arguments = GRID, PLAN, Q_VALUES, np.arange(3)
    drawn(plotting.save_gridworld, *arguments, alone, title="")
    for several in (alone, curve):
        with pytest.raises(ValueError, match=r"steps \(2,\), curve \(3,\)"):
            plotting.save_gridworld(
                "x.png", *arguments[:3], np.arange(2), several, title=""
            )
    with pytest.raises(ValueError, match=r"curve must be of several seeds, .* \(3,\)"):
        plotting.save_gridworld(
            "x.png", GRID, PLAN, Q_VALUES, np.arange(3), one, title=""
        )
    with pytest.raises(ValueError, match=r"q_values \(4,\), plan \(4, 4\)"):
        plotting.save_gridworld(
            "x.png", GRID, PLAN, np.arange(4), np.arange(3), curve, title=""
        )
