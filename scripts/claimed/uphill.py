"""The values of states form an uphill gradient to the goal."""

import jax
import numpy as np

from claimed import mazes
from claimed.common import Claim, Row, share_of
from rljax import planning

THRESHOLD = 0.99


def measure(*, quick: bool = False, sign: float = 1.0) -> list[Row]:
    """From each state one walks to the neighbour with the highest V*, over and over.

    The goal counts as higher than all: V* is 0 there, as nothing follows, and its
    reward of 1 is no more than the V* of the cells around it.

    Args:
      quick: whether 500 mazes will do, of 2,000.
      sign: −1 walks downhill.
    """
    number = 500 if quick else 2000
    cases = [(0.99, 0.0), (0.9, 0.0), (0.5, 0.0), (0.99, 0.1), (0.99, 0.3), (0.99, 0.9)]
    rows = []
    for discount, slip in cases[:: 5 if quick else 1]:
        drawn = mazes.draw(number, 7, seed=0, slip=slip)
        plan = jax.vmap(lambda mdp, d=discount: planning.value_iteration(mdp, d))
        values = sign * np.asarray(jax.jit(plan)(drawn.mdps).values, float)
        values[np.arange(number), drawn.goals] = np.inf
        rows.append(
            share_of(f"γ = {discount}, slip {slip}", shares(drawn, values), THRESHOLD)
        )
    return rows


def shares(drawn: mazes.Mazes, values: np.ndarray) -> np.ndarray:
    """[M] of the states of each maze, how many reach the goal by a shortest path."""
    every = np.arange(len(values))[:, None, None]
    best = values[every, drawn.next_cells].argmax(-1)
    uphill = np.take_along_axis(drawn.next_cells, best[..., None], -1)[..., 0]
    at = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    steps = np.full(values.shape, np.inf)
    for step in range(values.shape[1]):
        steps = np.where(np.isinf(steps) & (at == drawn.goals[:, None]), step, steps)
        at = np.take_along_axis(uphill, at, -1)
    counted = np.isfinite(drawn.distances) & (drawn.distances > 0)
    right = counted & (steps == drawn.distances)
    return right.sum(-1) / counted.sum(-1)


CLAIM = Claim(
    "uphill",
    "The values of states form an uphill gradient to the goal.",
    "share of a maze's states from which steepest ascent in V* is a shortest path",
    f"more than {THRESHOLD}, mean over random 7×7 mazes",
    measure,
)
