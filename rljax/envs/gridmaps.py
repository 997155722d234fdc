"""Maps of grids: their characters, the built-in ones, and their analysis in NumPy."""

import collections
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""The step (rows, columns) of the actions up, down, left and right."""

ARROWS = "↑↓←→"

FREE, WALL, START, GOAL, PIT, CLIFF = ".#AGPC"
_ALIASES = {"S": START, "F": FREE, "H": PIT}

GRID_5X5 = (
    "A....",
    ".#.#.",
    ".#.#.",
    ".#...",
    "....G",
)
GRID_7X7 = (
    "A...#..",
    ".##.#.#",
    "..#....",
    "#.####.",
    ".....#.",
    ".###.#.",
    "...#..G",
)
FROZEN_LAKE_4X4 = (
    "A...",
    ".P.P",
    "...P",
    "P..G",
)
FROZEN_LAKE_8X8 = (
    "A.......",
    "........",
    "...P....",
    ".....P..",
    "...P....",
    ".PP...P.",
    ".P..P.P.",
    "...P...G",
)
CLIFF_WALKING = (
    "............",
    "............",
    "............",
    "ACCCCCCCCCCG",
)

_MAX_CELLS = 2**23  # so that cell · 256 + character fits into an int32


class Grid(NamedTuple):
    """What follows from the layout alone, as NumPy arrays on the host."""

    kinds: np.ndarray  # [S] uint8, the map's characters
    next_cells: np.ndarray  # [S, A] int64, the cell where a move ends
    moves: np.ndarray  # [S, A] int32, next cell · 256 + the entered cell's character
    starts: tuple[int, ...]


@functools.lru_cache(maxsize=64)
def analyse(layout: tuple[str, ...]) -> Grid:
    """Analyses a layout that `check_layout` has returned."""
    kinds = np.array([list(row.encode()) for row in layout], np.uint8)
    rows, columns = kinds.shape
    row, column = np.indices(kinds.shape)
    cells = row * columns + column
    entered = np.empty((rows, columns, len(MOVES)), np.int32)
    for action, (down, right) in enumerate(MOVES):
        to_row = np.clip(row + down, 0, rows - 1)
        to_column = np.clip(column + right, 0, columns - 1)
        blocked = kinds[to_row, to_column] == ord(WALL)
        entered[..., action] = np.where(blocked, cells, to_row * columns + to_column)
    entered = entered.reshape(-1, len(MOVES))
    kinds = kinds.reshape(-1)
    starts = np.flatnonzero(kinds == ord(START))
    entered_kinds = kinds[entered]
    next_cells = np.where(entered_kinds == ord(CLIFF), starts[0], entered)
    moves = next_cells.astype(np.int32) << 8 | entered_kinds
    return Grid(kinds, next_cells, moves, tuple(starts.tolist()))


def check_layout(layout: Any) -> tuple[str, ...]:
    """The rows with aliases replaced; raises TypeError or ValueError if not a map."""
    is_rows = isinstance(layout, tuple | list)
    if not is_rows or not all(isinstance(row, str) for row in layout):
        raise TypeError(
            "GridWorld.layout must be a tuple of rows such as ('A.', '.G'), got "
            f"{layout!r}. For one string use GridWorld.from_text."
        )
    rows = tuple(
        "".join(_ALIASES.get(character, character) for character in str(row))
        for row in layout
    )
    lengths = sorted({len(row) for row in rows})
    if not "".join(rows):
        raise ValueError(
            f"GridWorld.layout must have rows of one length, got none: {rows!r}."
        )
    if len(rows) * lengths[-1] > _MAX_CELLS:
        raise ValueError(
            f"GridWorld.layout must have at most {_MAX_CELLS} cells, got {len(rows)} "
            f"rows of {lengths[-1]}."
        )
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(
            f"GridWorld.layout must have rows of one length, got lengths {lengths}."
        )
    known = FREE + WALL + START + GOAL + PIT + CLIFF
    for i, row in enumerate(rows):
        for j, character in enumerate(row):
            if character not in known:
                raise ValueError(
                    f"GridWorld.layout has the unknown character {character!r} in row "
                    f"{i}, column {j}; known are {known} and {''.join(_ALIASES)}."
                )
    text = "".join(rows)
    for kind, name in ((START, "start"), (GOAL, "goal")):
        if kind not in text:
            raise ValueError(f"GridWorld.layout has no {name} ({kind}): {rows!r}.")
    if CLIFF in text and text.count(START) > 1:
        raise ValueError(
            f"GridWorld.layout has a cliff (C) and {text.count(START)} starts (A); a "
            "cliff sends the agent back to the one start."
        )
    return rows


@functools.lru_cache(maxsize=64)
def dead_ends(layout: tuple[str, ...]) -> list[str]:
    """Messages on goals that no start leads to and on starts that lead to no goal."""
    grid = analyse(layout)
    columns = len(layout[0])
    ends = np.isin(grid.kinds, [ord(GOAL), ord(PIT)])
    goals = np.flatnonzero(grid.kinds == ord(GOAL)).tolist()
    forward: list[list[int]] = [[] for _ in ends]
    backward: list[list[int]] = [[] for _ in ends]
    for cell in np.flatnonzero(~ends & (grid.kinds != ord(WALL))).tolist():
        forward[cell] = grid.next_cells[cell].tolist()
        for successor in forward[cell]:
            backward[successor].append(cell)
    reached = _reachable(grid.starts, forward)
    leading = _reachable(goals, backward)
    problems = [
        f"the goal at {divmod(goal, columns)} is unreachable from every start"
        for goal in goals
        if goal not in reached
    ]
    problems += [
        f"no goal is reachable from the start at {divmod(start, columns)}: an episode "
        "can only end in a pit or at a time limit"
        for start in grid.starts
        if start not in leading
    ]
    return problems


def _reachable(sources: Iterable[int], edges: list[list[int]]) -> set[int]:
    seen = set(sources)
    queue = collections.deque(seen)
    while queue:
        for successor in edges[queue.popleft()]:
            if successor not in seen:
                seen.add(successor)
                queue.append(successor)
    return seen
