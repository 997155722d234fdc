"""Grids of chapters 3 and 4: values that solve Bellman's equations, as tables."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from figures import common
from rljax import planning
from rljax.envs.gridmaps import ARROWS, MOVES
from rljax.plotting import figures

PRINTED = 0.05 + 1e-4
"""By how much numbers may differ from those that the book prints with one decimal."""
SWEPT = {
    "k = 1": (-1.0, -1.0, -1.0, -1.0, -1.0),
    "k = 2": (-1.7, -2.0, -2.0, -2.0, -2.0),
    "k = 3": (-2.4, -2.9, -3.0, -2.9, -3.0),
    "k = 10": (-6.1, -8.4, -9.0, -7.7, -8.4),
    "k = ∞": (-14.0, -20.0, -22.0, -18.0, -20.0),
}
"""What figure 4.1 prints, see `_symmetric`. It cuts −1.75 to −1.7."""


def _grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells where moves end, and whether they led off the grid, both [S, A]."""
    cells = np.moveaxis(np.indices((rows, columns)), 0, -1).reshape(-1, 1, 2)
    moved = cells + np.array(MOVES)
    inside = np.clip(moved, 0, [rows - 1, columns - 1])
    return inside @ [columns, 1], (moved != inside).any(-1)


def _mdp(successors: Any, rewards: Any, terminal: Any) -> rljax.MDP:
    """The model in which each action has one outcome, and any start is as likely."""
    num_states = len(rewards)
    start, transitions = np.full(num_states, 1 / num_states), np.eye(num_states)
    arrays: Any = (transitions[successors], rewards, terminal, start)
    return rljax.MDP(*arrays)


def _two_shortcuts() -> rljax.MDP:
    """Example 3.5: 5 × 5 cells; all moves from A lead to A′ with +10, from B to B′."""
    successors, off = _grid(5, 5)
    rewards = np.where(off, -1.0, 0.0)
    for start, end, reward in ((1, 21, 10.0), (3, 13, 5.0)):
        successors[start], rewards[start] = end, reward
    return _mdp(successors, rewards, np.zeros(25, bool))


def _best(q_values: Any) -> np.ndarray:
    """Which actions are best but for rounding, [S, A] bool."""
    q_values = np.asarray(q_values)
    return q_values > q_values.max(1, keepdims=True) - 1e-4


def _greedy(mdp: rljax.MDP, values: Any) -> np.ndarray:
    """Which actions are greedy at γ = 1, [S, A] bool."""
    return _best(planning.q_values(mdp, values, 1.0))


def _draw_table(axes: Any, title: str, numbers: Any, form: str = "{:.1f}") -> None:
    """A grid with a number [H, W] in each cell."""
    _draw_cells(axes, title, np.shape(numbers))
    for (row, column), number in np.ndenumerate(numbers):
        text = form.format(number + 0.0).replace("-", "−")
        axes.text(column, row, text, ha="center", va="center", fontsize=9)


def _draw_policy(axes: Any, title: str, best: Any, terminal: Any = ()) -> None:
    """A grid with an arrow for each best action, [H, W, A] bool."""
    _draw_cells(axes, title, best.shape[:2])
    for (down, right), cells in zip(MOVES, np.moveaxis(best, -1, 0), strict=True):
        for row, column in np.argwhere(cells):
            if (row, column) not in terminal:
                tip = (column + 0.42 * right, row + 0.42 * down)
                style = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0, "lw": 0.9}
                axes.annotate("", tip, (column, row), arrowprops=style)
    for row, column in terminal:
        axes.fill_between(
            [column - 0.5, column + 0.5], row - 0.5, row + 0.5, color="0.7"
        )


def _draw_cells(axes: Any, title: str, shape: tuple[int, ...]) -> None:
    rows, columns = shape
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal")
    axes.set_xticks(np.arange(columns + 1) - 0.5, [])
    axes.set_yticks(np.arange(rows + 1) - 0.5, [])
    axes.tick_params(length=0)
    axes.grid(color="0.6", lw=0.8)
    axes.set_title(title, fontsize=10)


def _draw_shortcuts(axes: Any) -> None:
    _draw_cells(axes, "rewards", (5, 5))
    for column, end, name, reward in ((1, 4, "A", "+10"), (3, 2, "B", "+5")):
        for row, text in ((0, name), (end, f"{name}′")):
            axes.text(column, row, text, ha="center", va="center")
        style = {"arrowstyle": "->", "connectionstyle": "arc3,rad=-0.4"}
        axes.annotate(
            "", (column + 0.2, end - 0.2), (column + 0.2, 0.2), arrowprops=style
        )
        middle = column + 0.2 + 0.2 * (end - 0.4)
        axes.text(middle + 0.1, end / 2, reward, ha="left", va="center", fontsize=9)


def figure_3_2(*, quick: bool = False) -> common.Drawn:
    """The values of the equiprobable random policy on a grid with two shortcuts."""
    del quick
    mdp = _two_shortcuts()
    random = jnp.full((25, 4), 0.25)
    values = np.asarray(planning.policy_evaluation(mdp, random, 0.9).values)
    printed = [
        [3.3, 8.8, 4.4, 5.3, 1.5],
        [1.5, 3.0, 2.3, 1.9, 0.5],
        [0.1, 0.7, 0.7, 0.4, -0.4],
        [-1.0, -0.4, -0.4, -0.6, -1.2],
        [-1.9, -1.3, -1.2, -1.4, -2.0],
    ]
    values = values.reshape(5, 5)
    statements = [
        common.equal("the values are those printed", values, printed, PRINTED),
        _within("A is worth less than its reward of 10", values[0, 1], -np.inf, 10),
        _within("B is worth more than its reward of 5", values[0, 3], 5, np.inf),
    ]
    picture = figures.new(6.2, 3.2)
    world, table = picture.subplots(1, 2)
    _draw_shortcuts(world)
    _draw_table(table, "values of the random policy", values)
    panels = {"values": [common.grid("random policy", values)]}
    return common.Drawn(panels, statements, picture)


def _within(text: str, value: Any, low: float, high: float) -> common.Statement:
    """That a computed number lies between two others."""
    value = float(value)
    return common.Statement(text, value, low, high, 0, low < value < high)


def figure_3_5(*, quick: bool = False) -> common.Drawn:
    """The optimal values and policies of the same grid."""
    del quick
    plan = planning.policy_iteration(_two_shortcuts(), 0.9)
    values = np.asarray(plan.values).reshape(5, 5)
    best = _best(plan.q_values)
    printed = [
        [22.0, 24.4, 22.0, 19.4, 17.5],
        [19.8, 22.0, 19.8, 17.8, 16.0],
        [17.8, 19.8, 17.8, 16.0, 14.4],
        [16.0, 17.8, 16.0, 14.4, 13.0],
        [14.4, 16.0, 14.4, 13.0, 11.7],
    ]
    arrows = "→ ↑↓←→ ← ↑↓←→ ←  ↑→ ↑ ↑← ← ← " + " ↑→ ↑ ↑← ↑← ↑← " * 3
    drawn = [[arrow in cell for arrow in ARROWS] for cell in arrows.split()]
    # From A one is back at A after five steps.
    cycle = 10 / (1 - 0.9**5)
    statements = [
        common.equal("the values are those printed", values, printed, PRINTED),
        common.equal("A is worth 10 / (1 − 0.9⁵)", values[0, 1], cycle, 1e-4),
        common.equal("the optimal actions are those of the arrows", best, drawn, 0),
    ]
    picture = figures.new(9, 3.2)
    world, table, policy = picture.subplots(1, 3)
    _draw_shortcuts(world)
    _draw_table(table, "optimal values", values)
    _draw_policy(policy, "optimal actions", best.reshape(5, 5, 4))
    panels = {"values": [common.grid("optimal", values)]}
    return common.Drawn(panels, statements, picture)


def _sweeps(mdp: rljax.MDP, num_sweeps: int) -> np.ndarray:
    """The values of the random policy after 0, 1, … sweeps from V = 0, [K + 1, S]."""

    def sweep(values, _):
        return planning.q_values(mdp, values, 1.0).mean(1), values

    start = jnp.zeros(mdp.num_states)
    return np.asarray(jax.lax.scan(sweep, start, length=num_sweeps + 1)[1])


def figure_4_1(*, quick: bool = False) -> common.Drawn:
    """Iterative policy evaluation of the random policy on a grid with two ends."""
    del quick
    terminal = np.isin(np.arange(16), (0, 15))
    mdp = _mdp(_grid(4, 4)[0], np.full((16, 4), -1.0), terminal)
    random, swept = jnp.full((16, 4), 0.25), _sweeps(mdp, 10)
    values = {f"k = {k}": swept[k] for k in (0, 1, 2, 3, 10)}
    values["k = ∞"] = np.asarray(planning.policy_evaluation(mdp, random, 1.0).values)
    best = {name: _greedy(mdp, v) for name, v in values.items()}
    # The way to the nearer end takes −V* moves.
    rows, columns = np.indices((4, 4)).reshape(2, -1)
    shortest = -np.minimum(rows + columns, 6.0 - rows - columns)
    detour = ~_greedy(mdp, shortest)
    statements = [
        common.equal(
            f"{name}: the values are those printed",
            values[name].reshape(4, 4),
            _symmetric(*numbers),
            PRINTED,
        )
        for name, numbers in SWEPT.items()
    ]
    wrong = (best["k = 2"] & detour).sum()
    statements += [
        _within("k = 2: some greedy actions are detours", wrong, 0, 56),
        common.equal("k = 3: no greedy action is", best["k = 3"] & detour, 0, 0),
        common.equal("k = 10: the actions of k = 3", best["k = 10"], best["k = 3"], 0),
        common.equal("k = ∞: the actions of k = 3", best["k = ∞"], best["k = 3"], 0),
    ]
    picture = figures.new(10.5, 3.7)
    for axes, (name, v) in zip(picture.subplots(2, 6).T, values.items(), strict=True):
        form = "{:.0f}" if name == "k = ∞" else "{:.1f}"
        _draw_table(axes[0], f"{name}: values", v.reshape(4, 4), form)
        ends = [(0, 0), (3, 3)]
        _draw_policy(axes[1], "greedy actions", best[name].reshape(4, 4, 4), ends)
    panels = {"values": [common.grid(name, v) for name, v in values.items()]}
    return common.Drawn(panels, statements, picture)


def _symmetric(a: float, b: float, c: float, d: float, e: float) -> np.ndarray:
    """A grid of 4 × 4 numbers that equals its mirror images in both diagonals."""
    return np.array([[0, a, b, c], [a, d, e, b], [b, e, d, a], [c, b, a, 0]])


FIGURES = [
    common.Figure("3.2", "a grid with two shortcuts: a random policy", figure_3_2),
    common.Figure("3.5", "a grid with two shortcuts: the best policies", figure_3_5),
    common.Figure("4.1", "iterative policy evaluation", figure_4_1),
]
