"""Pictures of environments, drawn with Pillow: what stands behind `env.render`.

The functions take numbers and return an array [H, W, 3] of uint8. Shapes are drawn
larger and reduced, so that their edges are smooth. Pillow is imported when something is
drawn; it comes with the extra `plot`.
"""

import functools
import math
from typing import Any

import numpy as np
from jax.core import Tracer

from rljax import checks
from rljax.envs.gridmaps import CLIFF, GOAL, PIT, START, WALL

# Told apart by those who see no red, no green or no blue, and by lightness alone.
PAPER = "#f7f7f4"
LINE = "#d4d4ce"
INK = "#33383d"
AGENT = "#1f6fb2"
GOLD = "#d4a017"
DANGER = "#7a2e1f"
CELLS = {WALL: INK, GOAL: GOLD, PIT: DANGER, CLIFF: DANGER}
"""Colours of the cells where nobody acts, by the map's letters."""
MARKS = {
    "player": (AGENT, "box", 0.84, 0.84),
    "paddle": (AGENT, "box", 1.0, 0.4),
    "ball": (INK, "disc", 0.7, 0.7),
    "brick": ("#c26a2d", "box", 0.92, 0.8),
    "enemy": (DANGER, "disc", 0.8, 0.8),  # and a ball that was missed
    "gold": (GOLD, "disc", 0.8, 0.8),
    "trail": ("#b4b9bd", "disc", 0.36, 0.36),
    "leftwards": (PAPER, "left", 0.36, 0.4),
    "rightwards": (PAPER, "right", 0.36, 0.4),
    "bullet": (AGENT, "box", 0.36, 0.6),
    "bomb": ("#c26a2d", "box", 0.18, 0.8),
} | {f"trail{i}": ("#b4b9bd", "box", 1.0, 0.11 * i) for i in range(1, 6)}
"""What lies on a board: the colour, the shape, and its width and height in squares."""

ENLARGED = 4
"""Pictures are drawn so many times as large."""
_START = "#d7e6f3"
_SAFE = "#e6ebef"
_POLE = "#c26a2d"
_LEAST_CELL = 12  # pixels of a cell that has room for lines and letters


def pillow() -> Any:
    """The package PIL, with the modules that drawing takes.

    Raises:
      ImportError: Pillow is missing; the message names the extra.
    """
    try:
        import PIL.Image
        import PIL.ImageDraw
        import PIL.ImageFont
    except ImportError as error:
        raise ImportError(
            "pictures need Pillow, which comes with an extra: pip install "
            "'rljax-core[plot]'."
        ) from error
    return PIL


def number(label: str, value: Any) -> float:
    """A finite number of one environment, to be drawn.

    Raises:
      TypeError: the value is traced, or no real number.
      ValueError: it is an array of several, or not finite.
    """
    array = concrete(label, value)
    if array.ndim:
        raise ValueError(
            f"{label} must be a scalar, as the picture is of one environment, has "
            f"shape {array.shape}. Draw one of them: jax.tree.map(lambda x: x[0], …)."
        )
    if not np.isfinite(array):
        raise ValueError(f"{label} must be finite to be drawn, is {array}.")
    return float(array)


def index(label: str, value: Any, number_of: int) -> int:
    """An integer of one environment, from 0 to below `number_of`.

    Raises:
      TypeError, ValueError: as `number`, or it is none of these integers.
    """
    found = number(label, value)
    if found not in range(number_of):
        raise ValueError(
            f"{label} must be an integer in [0, {number_of}), got {value}."
        )
    return int(found)


def concrete(label: str, value: Any) -> np.ndarray:
    """`value` as NumPy's array of float64, to be drawn.

    Raises:
      TypeError: it is traced, or holds no real numbers.
    """
    if isinstance(value, Tracer):
        raise TypeError(
            f"{label} is traced, and a picture is drawn from numbers. Call render "
            "outside of jit, vmap and scan, with the state that they return."
        )
    return checks.as_floats(label, value)


def side(size: Any) -> int:
    """The longer side of a picture in pixels; raises unless it is from 16 to 4096."""
    return checks.integer("size", size, minimum=16, maximum=4096)


def cart_pole(
    x: float,
    theta: float,
    *,
    x_threshold: float,
    theta_threshold: float,
    half_length: float,
    size: int,
) -> np.ndarray:
    """A pole on a cart on a track, [size / 2, size, 3].

    The track has a mark in the middle and posts at the two thresholds of x. Behind the
    pole are the angles that it may have; once it has fallen, it is of another colour.
    Cart and thickness have a fixed size; all else is to one scale, in which the track
    and the upright pole fit.
    """
    pil, width, height = pillow(), size * ENLARGED, size // 2 * ENLARGED
    image = pil.Image.new("RGB", (width, height), PAPER)
    draw = pil.ImageDraw.Draw(image)
    unit = width / 100
    ground, cart_height = 0.8 * height, 5.5 * unit
    pivot = ground - 1.4 * unit - cart_height
    scale = min(width / (2.5 * x_threshold), 0.92 * pivot / (2 * half_length))
    length = 2 * half_length * scale

    def bar(left, top, right, bottom, fill, radius=0.0):
        draw.rounded_rectangle((left, top, right, bottom), radius, fill)

    def disc(x, y, radius, fill):
        draw.ellipse(square(x, y, radius), fill)

    middle = width / 2 + x * scale
    limit = min(math.degrees(theta_threshold), 180.0)
    around = square(middle, pivot + 1.6 * unit, 1.08 * length)
    draw.pieslice(around, -90 - limit, -90 + limit, _SAFE)
    bar(0, ground, width, ground + 0.6 * unit, INK)
    bar(width / 2 - 0.2 * unit, ground, width / 2 + 0.2 * unit, ground + 2 * unit, INK)
    for post in (-x_threshold, x_threshold):
        at = width / 2 + post * scale
        bar(at - 0.4 * unit, ground - 3 * unit, at + 0.4 * unit, ground, DANGER)
    for wheel in (-3.2, 3.2):
        disc(middle + wheel * unit, ground - 1.4 * unit, 1.4 * unit, INK)
    half, top = 5.5 * unit, pivot
    bar(middle - half, top, middle + half, top + cart_height, AGENT, 1.2 * unit)
    fallen = abs(theta) > theta_threshold or abs(x) > x_threshold
    color, thickness = DANGER if fallen else _POLE, 1.1 * unit
    start = middle, pivot + 1.6 * unit
    end = start[0] + length * math.sin(theta), start[1] - length * math.cos(theta)
    draw.line((start, end), color, round(2 * thickness))
    disc(*end, thickness, color)
    disc(*start, 1.4 * thickness, color)
    disc(*start, 0.6 * thickness, PAPER)
    return np.array(image.reduce(ENLARGED))


def pendulum(theta: float, *, size: int) -> np.ndarray:
    """A rod about the middle, [size, size, 3]; where its end has to be is a mark."""
    pil, width = pillow(), size * ENLARGED
    image = pil.Image.new("RGB", (width, width), PAPER)
    draw = pil.ImageDraw.Draw(image)
    unit, middle = width / 100, width / 2
    length, thickness = 40 * unit, 3.2 * unit
    draw.ellipse(square(middle, middle, length + thickness), _SAFE)
    draw.ellipse(square(middle, middle - length, 1.5 * thickness), GOLD)
    end = middle + length * math.sin(theta), middle - length * math.cos(theta)
    _rod(draw, (middle, middle), end, thickness, _POLE)
    return np.array(image.reduce(ENLARGED))


def acrobot(
    theta_1: float,
    theta_2: float,
    *,
    length_1: float,
    length_2: float,
    goal_height: float,
    size: int,
) -> np.ndarray:
    """Two links that hang from the middle, [size, size, 3]; the line is the goal.

    The end can reach no point outside of the pale disc. A goal higher than the picture
    is not seen.
    """
    pil, width = pillow(), size * ENLARGED
    image = pil.Image.new("RGB", (width, width), PAPER)
    draw = pil.ImageDraw.Draw(image)
    unit, middle = width / 100, width / 2
    scale, thickness = 43 * unit / (length_1 + length_2), 2.4 * unit
    draw.ellipse(square(middle, middle, 43 * unit + thickness), _SAFE)
    line = middle - goal_height * scale
    draw.rectangle((0, line - 0.5 * unit, width, line + 0.5 * unit), GOLD)

    def along(start, angle, length):
        """Where a link ends that starts there; the angle is from straight down."""
        right, down = math.sin(angle) * scale, math.cos(angle) * scale
        return start[0] + length * right, start[1] + length * down

    joint = along((middle, middle), theta_1, length_1)
    end = along(joint, theta_1 + theta_2, length_2)
    _rod(draw, (middle, middle), joint, thickness, _POLE)
    _rod(draw, joint, end, thickness, AGENT)
    return np.array(image.reduce(ENLARGED))


def grid(layout: tuple[str, ...], cell: int, *, size: int) -> np.ndarray:
    """A map with the agent in a cell, row · columns + column.

    Its longer side has `size` pixels, less what is left over when each cell has whole
    pixels. Goals are gold with a star, walls dark, pits and cliffs dark with their
    letter, and the start is pale with a frame.
    """
    length = max(size // max(len(layout), len(layout[0])), 1)
    image = _empty_grid(layout, length).copy()
    row, column = divmod(cell, len(layout[0]))
    agent, mask = _agent(length)
    image.paste(agent, (column * length, row * length), mask)
    return np.array(image)


@functools.lru_cache(maxsize=16)
def _empty_grid(layout: tuple[str, ...], length: int) -> Any:
    """The map without the agent, as it is in every frame of a movie."""
    pil = pillow()
    width, height = len(layout[0]) * length, len(layout) * length
    image = pil.Image.new("RGB", (width, height), PAPER)
    for row, cells in enumerate(layout):
        for column, kind in enumerate(cells):
            image.paste(_cell(kind, length), (column * length, row * length))
    if length >= _LEAST_CELL:
        frame = (0, 0, width - 1, height - 1)
        pil.ImageDraw.Draw(image).rectangle(frame, outline=INK)
    return image


@functools.lru_cache(maxsize=64)
def _cell(kind: str, length: int) -> Any:
    pil, side = pillow(), length * ENLARGED
    fill = _START if kind == START else CELLS.get(kind, PAPER)
    image = pil.Image.new("RGB", (side, side), fill)
    draw, middle = pil.ImageDraw.Draw(image), side / 2
    if length < _LEAST_CELL:
        return image.reduce(ENLARGED)
    if kind == START:
        inset = 0.06 * side
        edge = (inset, inset, side - inset, side - inset)
        draw.rectangle(edge, outline=AGENT, width=round(0.04 * side))
    if kind == GOAL:
        _star(draw, (middle, middle), 0.3 * side)
    if kind in (PIT, CLIFF):
        _write(draw, (middle, middle), kind, 0.55 * side, PAPER)
    if kind != WALL:
        draw.rectangle((0, 0, side, side), outline=LINE, width=ENLARGED // 2)
    return image.reduce(ENLARGED)


@functools.lru_cache(maxsize=64)
def _agent(length: int) -> tuple[Any, Any]:
    """A disc with a light rim, the size of a cell, and where it covers the cell."""
    pil, side = pillow(), length * ENLARGED
    image = pil.Image.new("RGB", (side, side), PAPER)
    mask = pil.Image.new("L", (side, side), 0)
    rim = 0.36 * side if length >= _LEAST_CELL else side
    for on, radius, fill in ((mask, rim, 255), (image, 0.87 * rim, AGENT)):
        pil.ImageDraw.Draw(on).ellipse(square(side / 2, side / 2, radius), fill)
    return image.reduce(ENLARGED), mask.reduce(ENLARGED)


def bandit(
    means: np.ndarray, *, spread: float, limits: tuple[float, float], size: int
) -> np.ndarray:
    """A bar for each arm's true mean, [0.6 · size, size, 3]; the best ones are gold.

    Args:
      means: [A].
      spread: half of the whisker about each mean; 0 draws none.
      limits: the least and the largest number that the picture has room for.
      size: width in pixels.
    """
    pil = pillow()
    width, height = size * ENLARGED, round(0.6 * size) * ENLARGED
    image = pil.Image.new("RGB", (width, height), PAPER)
    draw = pil.ImageDraw.Draw(image)
    low, high = limits
    top, bottom, unit = 0.1 * height, 0.82 * height, width / 100

    def at(value):
        return bottom - (bottom - top) * (value - low) / (high - low)

    step = 0.94 * width / len(means)
    written = step >= 30 * ENLARGED
    for i, mean in enumerate(means):
        middle = 0.03 * width + (i + 0.5) * step
        color = GOLD if mean == means.max() else AGENT
        ends = sorted((at(0.0), at(mean)))
        left, right = middle - 0.3 * step, middle + 0.3 * step
        draw.rectangle((left, ends[0], right, ends[1]), color)
        if spread:
            whisker = (middle, at(mean - spread), middle, at(mean + spread))
            draw.line(whisker, INK, round(0.5 * unit))
        if written:
            text, down = f"{mean:.2f}".replace("-", "−"), 3.0 * unit
            place = at(mean + spread) - down if mean >= 0 else at(mean - spread) + down
            _write(draw, (middle, place), text, 3.4 * unit, INK)
            _write(draw, (middle, 0.94 * height), str(i), 4 * unit, INK)
    draw.line((0.03 * width, at(0.0), 0.97 * width, at(0.0)), INK, round(0.4 * unit))
    return np.array(image.reduce(ENLARGED))


def board(cells: np.ndarray, marks: tuple[str, ...], *, size: int) -> np.ndarray:
    """What lies on the squares of a board, [H, W, 3], in a mark for each channel.

    Args:
      cells: [H, W, C], not 0 where channel c has something; a later one lies above.
      marks: names of `MARKS`, C of them.
      size: pixels of the longer side, less what is left over when each square has whole
        pixels.
    """
    rows, columns, _ = cells.shape
    length = max(size // max(rows, columns), 1)
    image = _empty_grid(("." * columns,) * rows, length).copy()
    for channel, name in enumerate(marks):
        mark, mask = _mark(name, length)
        for row, column in np.argwhere(cells[..., channel]):
            image.paste(mark, (int(column) * length, int(row) * length), mask)
    return np.array(image)


@functools.lru_cache(maxsize=64)
def _mark(name: str, length: int) -> tuple[Any, Any]:
    """A mark in a square, and where it covers the square."""
    pil, side = pillow(), length * ENLARGED
    mask = pil.Image.new("L", (side, side), 0)
    draw = pil.ImageDraw.Draw(mask)
    color, shape, width, height = MARKS[name]
    left, right = 0.5 * (1 - width) * side, 0.5 * (1 + width) * side
    top, bottom = 0.5 * (1 - height) * side, 0.5 * (1 + height) * side
    if shape == "disc":
        draw.ellipse((left, top, right, bottom), 255)
    elif shape == "box":
        draw.rounded_rectangle((left, top, right, bottom), 0.08 * side, 255)
    else:
        tip, back = (left, right) if shape == "left" else (right, left)
        draw.polygon([(tip, side / 2), (back, top), (back, bottom)], 255)
    return pil.Image.new("RGB", (length, length), color), mask.reduce(ENLARGED)


def _rod(
    draw: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    thickness: float,
    color: str,
) -> None:
    """A rod with a round end that turns about a pin at its start."""
    draw.line((start, end), color, round(2 * thickness))
    draw.ellipse(square(*end, thickness), color)
    draw.ellipse(square(*start, 1.4 * thickness), INK)
    draw.ellipse(square(*start, 0.5 * thickness), PAPER)


def square(x: float, y: float, half: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a square, or of the circle in it."""
    return x - half, y - half, x + half, y + half


def _star(draw: Any, middle: tuple[float, float], radius: float) -> None:
    """A star of five points, of paper."""
    points = []
    for i in range(10):
        angle, distance = math.pi * i / 5, radius * (13 / 30 if i % 2 else 1)
        place = distance * math.sin(angle), -distance * math.cos(angle)
        points.append((middle[0] + place[0], middle[1] + place[1]))
    draw.polygon(points, PAPER)


def _write(draw: Any, place: tuple[float, float], text: str, size: float, fill: str):
    """Text about its middle."""
    font = pillow().ImageFont.load_default(size)
    draw.text(place, text, fill, font=font, anchor="mm")


def taxi(
    cell: int,
    passenger: int | None,
    destination: int,
    *,
    stands: tuple[int, ...],
    walls: tuple[int, ...],
    size: int,
) -> np.ndarray:
    """Five by five cells with a taxi, [size, size, 3].

    Args:
      cell: of the taxi, 5 · row + column.
      passenger: the number of the stand at which they wait; None: they are inside.
      destination: the number of a stand, which is gold with a star.
      stands: their cells; R, G, Y and B stand for them.
      walls: the cells that have a wall to the east.
      size: pixels of a side.
    """
    pil, width = pillow(), size * ENLARGED
    image = pil.Image.new("RGB", (width, width), PAPER)
    draw, side = pil.ImageDraw.Draw(image), width / 5

    def corner(cell):
        row, column = divmod(cell, 5)
        return column * side, row * side

    for number, (stand, letter) in enumerate(zip(stands, "RGYB", strict=True)):
        x, y = corner(stand)
        is_goal = number == destination
        draw.rectangle((x, y, x + side, y + side), GOLD if is_goal else _START)
        _write(draw, (x + 0.17 * side, y + 0.19 * side), letter, 0.22 * side, INK)
        if is_goal:
            _star(draw, (x + 0.83 * side, y + 0.18 * side), 0.12 * side)
        if number == passenger:
            draw.ellipse(square(x + 0.5 * side, y + 0.79 * side, 0.06 * side), INK)
            body = (x + 0.4 * side, y + 0.86 * side, x + 0.6 * side, y + 0.97 * side)
            draw.rounded_rectangle(body, 0.05 * side, INK)
    for line in range(6):
        at, thick = min(line * side, width - 1), max(round(0.01 * side), 1)
        draw.line((at, 0, at, width), LINE, thick)
        draw.line((0, at, width, at), LINE, thick)
    for wall in walls:
        x, y = corner(wall + 1)
        half = 0.04 * side
        draw.rectangle((x - half, y, x + half, y + side), INK)
    x, y = corner(cell)
    _cab(draw, (x + 0.5 * side, y + 0.5 * side), side, occupied=passenger is None)
    return np.array(image.reduce(ENLARGED))


def _cab(draw: Any, middle: tuple[float, float], side: float, *, occupied: bool):
    """A car seen from the side, a third of a cell high, with a window."""
    x, y = middle
    body = (x - 0.36 * side, y - 0.03 * side, x + 0.36 * side, y + 0.15 * side)
    roof = [(-0.23, -0.02), (-0.14, -0.19), (0.14, -0.19), (0.23, -0.02)]
    draw.polygon([(x + a * side, y + b * side) for a, b in roof], AGENT)
    draw.rounded_rectangle(body, 0.06 * side, AGENT)
    window = [(-0.16, -0.03), (-0.1, -0.145), (0.1, -0.145), (0.16, -0.03)]
    fill = INK if occupied else PAPER
    draw.polygon([(x + a * side, y + b * side) for a, b in window], fill)
    for wheel in (-0.2, 0.2):
        draw.ellipse(square(x + wheel * side, y + 0.15 * side, 0.08 * side), INK)
