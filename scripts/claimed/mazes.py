"""Random mazes as stacked models of one size, which one program learns and solves."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from rljax.envs import gridmaps
from rljax.types import MDP


class Mazes(NamedTuple):
    """M mazes of S cells."""

    mdps: MDP
    """Leaves [M, …], with the transitions as lists of outcomes."""
    next_cells: np.ndarray
    """[M, S, 4] where each move leads without slips."""
    distances: np.ndarray
    """[M, S] moves to the goal; ∞ in walls and where no way leads there."""
    goals: np.ndarray
    """[M] the goal's cell."""


def draw(number: int, size: int, seed: int, **settings: Any) -> Mazes:
    """Draws square mazes: a third of the cells are walls, the goal can be reached.

    Args:
      number: M.
      size: rows and columns.
      seed: of NumPy's generator.
      **settings: of `GridWorld`.
    """
    rng = np.random.default_rng(seed)
    mdps, next_cells, distances, goals = [], [], [], []
    while len(mdps) < number:
        cells = np.where(rng.random(size**2) < 1 / 3, "#", ".")
        start, goal = rng.choice(size**2, 2, replace=False)
        cells[start], cells[goal] = "A", "G"
        layout = tuple("".join(row) for row in cells.reshape(size, size))
        moves = gridmaps.analyse(layout).next_cells
        found = _distances(moves, goal, cells != "#")
        if not np.isfinite(found[start]):
            continue
        grid = rljax.GridWorld(layout, **settings)
        mdps.append(grid.to_mdp(sparse=True))
        next_cells.append(moves)
        distances.append(found)
        goals.append(goal)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *mdps)
    return Mazes(stacked, np.array(next_cells), np.array(distances), np.array(goals))


def _distances(moves: np.ndarray, goal: int, free: np.ndarray) -> np.ndarray:
    distances = np.full(len(moves), np.inf)
    distances[goal] = 0
    for _ in range(len(moves)):
        distances = np.minimum(distances, 1 + distances[moves].min(-1))
    return np.where(free, distances, np.inf)
