"""Values and policies of grids."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from rljax import checks
from rljax.envs.gridmaps import ARROWS, GOAL, START, WALL
from rljax.envs.gridworld import GridWorld, check_policy
from rljax.envs.pictures import CELLS
from rljax.envs.wrappers import unlimited
from rljax.plotting import figures, regrets
from rljax.tabular.planning import Plan
from rljax.tabular.regret import ExactReturns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NUMBERS = 8
"""Rows or columns of a grid whose cells have room for their values."""


def gridworld(
    grid: Any,
    values: Any,
    policy: Any = None,
    *,
    limits: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Figure":
    """Draws values of a grid as colours and numbers, and a policy as arrows.

    Walls, goals, pits and cliffs have colours of their own; the start has a frame. A
    grid of more than 8 rows or columns has a bar of colours in the place of numbers.

        plan = rljax.planning.value_iteration(maze.to_mdp(), discount=0.99)
        rljax.plotting.gridworld(maze, plan)
        rljax.plotting.gridworld(maze, train_state.agent_state.q_values)

    Args:
      grid: a `GridWorld`, or one with a time limit.
      values: a `Plan`, or V [S], or Q [S, A], of which the greedy values and actions
        are drawn. Infinite ones and NaN have no colour.
      policy: [S] integer actions; None: the greedy one of a plan or of Q, and none
        with V.
      limits: the values of the lightest and the darkest colour; None: those of the
        least and the largest value where one acts.
      ax: Matplotlib axes to draw in; None: those of a new figure.

    Returns:
      The Matplotlib figure.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
      ImportError: Matplotlib is missing; the message names the extra.
    """
    grid = unlimited(grid)
    checks.instance("grid", grid, GridWorld, "rljax.make('GridWorld-5x5')")
    values, policy = _values_and_policy(grid, values, policy)
    rows, columns = grid.shape
    inches = min(0.75, 8 / max(rows, columns))
    size = max(inches * columns, 2.0), max(inches * rows, 1.0)
    figure, axes = figures.panel(ax, size[0] + 0.2, size[1] + 0.2)
    image = _draw_grid(axes, grid, values, policy, limits)
    if max(grid.shape) > _MOST_NUMBERS:
        # Beside what is high, and below what is wide.
        place: Any = {"location": "bottom" if columns > rows else "right"}
        figure.colorbar(image, ax=axes, label="value", shrink=0.8, **place)
    return figure


def save_gridworld(
    path: str | os.PathLike[str],
    grid: GridWorld,
    plan: Plan,
    q_values: Any,
    steps: Any,
    curve: ExactReturns,
    *,
    title: str,
) -> None:
    """Writes what was planned and learned on a grid to a picture file.

    Two panels show the values and the greedy actions, as `gridworld` draws them: those
    of the plan and those of one learned table. The third shows the exact regret over
    steps, as `exact_regret` draws it.

    Args:
      path: file to write; its ending chooses the format.
      grid: the grid.
      plan: from `planning`.
      q_values: [S, A] the learned table.
      steps: [K] environment steps at the curve's points.
      curve: exact returns of all seeds, leaves [num_seeds, K].
      title: heading.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    path = checks.path("path", path)
    checks.instance("grid", grid, GridWorld, "rljax.make('GridWorld-5x5')")
    checks.instance("plan", plan, Plan, "planning.value_iteration returns")
    regrets.check(curve)
    checks.same_shape(q_values=q_values, plan=plan.q_values)
    if np.ndim(curve.greedy) != 2:
        raise ValueError(
            "curve must be of several seeds, leaves [num_seeds, K], got returns of "
            f"shape {np.shape(curve.greedy)}. Of one seed, add the axis: "
            "jax.tree.map(lambda x: x[None], curve)."
        )
    checks.same_shape(steps=steps, curve=curve.greedy[0])
    rows, columns = grid.shape
    wide = columns > 2 * rows  # such as the cliff: one above the other
    figure = figures.new(13, 4.6)
    figure.suptitle(title)
    places: Any = [["planned", "learned", "regret"]]
    widths = [1, 1, 1.4]
    if wide:
        places, widths = [["planned", "regret"], ["learned", "regret"]], [1.3, 1]
    axes_of = figure.subplot_mosaic(places, width_ratios=widths)
    planned, learned, regret = (axes_of[n] for n in ("planned", "learned", "regret"))
    limits = _limits(grid, np.asarray(plan.values))
    for axes, values, name in (
        (planned, plan, "planned: V*"),
        (learned, q_values, "learned: max Q, first seed"),
    ):
        values, policy = _values_and_policy(grid, values, None)
        image = _draw_grid(axes, grid, values, policy, limits)
        axes.set_title(name, fontsize=11)
    if max(grid.shape) > _MOST_NUMBERS:
        place: Any = {"location": "right" if wide else "bottom", "shrink": 0.7}
        figure.colorbar(image, ax=[planned, learned], label="value", **place)
    regrets.draw(regret, curve, steps, "environment steps per seed")
    regret.set_title("exact regret J(π*) − J(π)", fontsize=11)
    regret.legend(frameon=False)
    figure.savefig(path, dpi=figures.DPI)


def _values_and_policy(grid: GridWorld, values: Any, policy: Any) -> Any:
    """V [S], and the actions [S] or None, of a plan, of V or of Q."""
    num_cells, num_actions = grid.observation_space.n, grid.action_space.n
    if isinstance(values, Plan):
        policy = values.policy if policy is None else policy
        values = values.values
    values = checks.as_floats("values", values)
    if values.shape == (num_cells, num_actions):
        policy = values.argmax(-1) if policy is None else policy
        values = values.max(-1)
    if values.shape != (num_cells,):
        raise ValueError(
            f"values must be a Plan of this grid, V [{num_cells}] or Q [{num_cells}, "
            f"{num_actions}], got shape {values.shape}."
        )
    return values, None if policy is None else check_policy(grid, policy)


def _limits(grid: GridWorld, values: np.ndarray) -> tuple[float, float]:
    """The least and the largest finite value of the cells where one acts."""
    cells = np.array(list("".join(grid.layout)))
    seen = values[~np.isin(cells, list(CELLS)) & np.isfinite(values)]
    return (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)


def _draw_grid(
    axes: Any, grid: GridWorld, values: Any, policy: Any, limits: Any
) -> Any:
    """Draws values and actions; returns the image, for a bar of its colours."""
    from matplotlib.patches import Rectangle

    low, high = _limits(grid, values) if limits is None else limits
    cells = np.array([list(row) for row in grid.layout])
    values = values.reshape(grid.shape)
    hidden = np.isin(cells, list(CELLS)) | ~np.isfinite(values)
    shown = np.ma.masked_where(hidden, values)
    image = axes.imshow(shown, vmin=low, vmax=high, cmap="Blues")
    largest = max(grid.shape)
    box = axes.get_window_extent()
    cell_width = min(box.width / grid.shape[1], box.height / grid.shape[0])
    cell_width *= 72 / axes.get_figure().dpi  # points, as sizes of letters
    size = min(15.0, 0.36 * cell_width)
    with_numbers = largest <= _MOST_NUMBERS
    for (row, column), cell in np.ndenumerate(cells):
        corner = column - 0.5, row - 0.5
        acts = cell not in CELLS
        if not acts:
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=CELLS[cell]))
        # Light letters on dark cells, and dark ones on light.
        dark = image.norm(values[row, column]) > 0.6 if acts else cell != GOAL
        style: Any = {"ha": "center", "va": "center"}
        style["color"] = "white" if dark else "black"
        text = "" if cell == WALL else cell
        if acts:
            number = row * grid.shape[1] + column
            text = "" if policy is None else ARROWS[policy[number]]
        up = 0.12 if acts and with_numbers and text else 0.0
        axes.text(column, row - up, text, fontsize=size, **style)
        if acts and with_numbers:
            down = 0.28 if text else 0.0
            small = f"{values[row, column]:.2f}".replace("-", "−")
            axes.text(column, row + down, small, fontsize=0.55 * size, **style)
        if cell == START:
            frame: Any = {"fill": False, "edgecolor": figures.ORANGE, "linewidth": 2}
            inside = column - 0.46, row - 0.46
            axes.add_patch(Rectangle(inside, 0.92, 0.92, **frame))
    axes.set(xticks=[], yticks=[])
    return image
