"""A grid in Bokeh: four arrows a cell, the agent, its best path, and what is exact."""

from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, LinearColorMapper

from rljax.envs.gridmaps import CLIFF, FREE, GOAL, PIT, START, WALL
from rljax.lab import page

SHADES = [f"#009e60{opacity:02x}" for opacity in (20, 55, 100, 150, 200, 255)]
"""Of an arrow, from the lowest Q of the table to the highest: on a light page as on a
dark one, the higher, the more it stands out."""
KINDS = {
    WALL: "#4a4e55",
    GOAL: page.GOLD,
    PIT: "#8c2d2d",
    CLIFF: "#8c2d2d",
    START: "#8fb7d980",
    FREE: "#00000000",
}
# From the middle of a cell: where the arrows up, down, left and right stand.
PLACES = np.array([[0, 0.3], [0, -0.3], [-0.3, 0], [0.3, 0]])
ANGLES = np.array([0, np.pi, np.pi / 2, -np.pi / 2])
MOST_ARROWS = 20
"""Rows or columns up to which each cell has its four arrows; larger ones are shaded."""


class GridPicture:
    """A plot of a map, of what an agent has learned on it, and of the exact answer.

    Args:
      size: pixels of its sides.
    """

    def __init__(self, size: int):
        self._size = size
        self.layout: tuple[str, ...] = ("AG",)
        self.plot = page.plot(
            "The greener an arrow, the higher its Q",
            width=size,
            height=size + 24,
            tools="tap",
            x_range=(0, 1),
            y_range=(-1, 0),
        )
        self.plot.axis.visible = self.plot.grid.visible = False
        self._shades = LinearColorMapper(palette=SHADES, low=0, high=1)
        self._known_shades = LinearColorMapper(palette="Cividis256", low=0, high=1)
        self._cells = ColumnDataSource({"x": [], "y": [], "color": [], "letter": []})
        self._arrows = ColumnDataSource({"x": [], "y": [], "q": [], "angle": []})
        self._known = ColumnDataSource({"x": [], "y": [], "v": [], "angle": []})
        self._path = ColumnDataSource({"x": [], "y": []})
        self._agent = ColumnDataSource({"x": [], "y": []})
        self.selected: Any = self._cells.selected
        """Its indices are the cells that were clicked."""
        self._draw_ground()
        self._draw_learned()
        self.show_exact(False)

    def _draw_ground(self):
        square: Any = {"x": "x", "y": "y", "width": 1, "height": 1}
        self._values = self.plot.rect(
            **square,
            source=self._known,
            fill_color={"field": "v", "transform": self._known_shades},
            line_color=None,
        )
        self.plot.rect(
            **square,
            source=self._cells,
            fill_color="color",
            line_color=page.GREY,
            line_alpha=0.4,
            nonselection_alpha=1.0,
        )
        self.plot.text(
            "x",
            "y",
            "letter",
            source=self._cells,
            text_align="center",
            text_baseline="middle",
            text_color="white",
            text_font_size="13px",
            text_font_style="bold",
        )

    def _draw_learned(self):
        shade = {"field": "q", "transform": self._shades}
        arrow: Any = {"x": "x", "y": "y", "marker": "triangle", "angle": "angle"}
        self._four = self.plot.scatter(
            **arrow,
            source=self._arrows,
            fill_color=shade,
            line_color=page.GREY,
            line_alpha=0.6,
        )
        self._one = self.plot.rect(
            "x", "y", 1, 1, source=self._arrows, fill_color=shade, line_color=None
        )
        self._best = self.plot.scatter(
            **arrow,
            source=self._known,
            fill_color=page.ORANGE,
            line_color="#1c1c1c",
        )
        self.plot.line("x", "y", source=self._path, color=page.ORANGE, width=3)
        self._spot = self.plot.scatter(
            "x",
            "y",
            source=self._agent,
            fill_color=page.BLUE,
            line_color="white",
            line_width=2,
        )

    def show_map(self, layout: tuple[str, ...]) -> None:
        """Another map, on which nothing has been learned."""
        self.layout = layout
        rows, columns = len(layout), len(layout[0])
        cells = list("".join(layout))
        places = np.array([self._middle(i) for i in range(len(cells))])
        self._cells.data = {
            "x": places[:, 0],
            "y": places[:, 1],
            "color": [KINDS[cell] for cell in cells],
            "letter": ["" if cell in FREE + WALL else cell for cell in cells],
        }
        self._fit = max(rows, columns) <= MOST_ARROWS
        self._four.visible, self._one.visible = self._fit, not self._fit
        side = self._size / max(rows, columns)
        self._four.glyph.size, self._best.glyph.size = 0.21 * side, 0.28 * side
        self._spot.glyph.size = max(0.28 * side, 7)
        each = 4 if self._fit else 1
        at = (places[:, None] + PLACES * self._fit)[:, :each].reshape(-1, 2)
        # Nobody acts in walls, goals and pits.
        at[np.repeat(~self._acts(), each)] = np.nan
        self._arrows.data = {
            "x": at[:, 0],
            "y": at[:, 1],
            "q": np.zeros(len(at)),
            "angle": np.tile(ANGLES[:each], len(cells)),
        }
        half = max(rows, columns) / 2
        self.plot.x_range.update(start=columns / 2 - half, end=columns / 2 + half)
        self.plot.y_range.update(start=-rows / 2 - half, end=-rows / 2 + half)
        self.show_walk([], None)

    def show_values(self, q_values: np.ndarray) -> None:
        """The shades of a table [S, A]."""
        shown = q_values.ravel() if self._fit else q_values.max(-1)
        acts = np.repeat(self._acts(), 4) if self._fit else self._acts()
        low, high = float(shown[acts].min()), float(shown[acts].max())
        self._shades.update(low=low, high=high if high > low else low + 1e-9)
        self._arrows.patch({"q": [(slice(len(shown)), shown)]})

    def show_walk(self, path: list[int], cell: int | None) -> None:
        """A path through cells, and where the agent is."""
        middles = np.array([self._middle(cell) for cell in path]).reshape(-1, 2)
        self._path.data = {"x": middles[:, 0], "y": middles[:, 1]}
        x, y = self._middle(0 if cell is None else cell)
        self._agent.data = {"x": [], "y": []} if cell is None else {"x": [x], "y": [y]}

    def set_exact(self, values: np.ndarray, policy: np.ndarray) -> None:
        """V* and π*, [S] each, for `show_exact`."""
        acts = self._acts()
        places = np.array([self._middle(int(i)) for i in np.flatnonzero(acts)])
        self._known.data = {
            "x": places[:, 0],
            "y": places[:, 1],
            "v": values[acts],
            "angle": ANGLES[policy[acts]],
        }
        low, high = float(values[acts].min()), float(values[acts].max())
        self._known_shades.update(low=low, high=high if high > low else low + 1e-9)

    def show_exact(self, shown: bool) -> None:
        """V* as shades of the cells and π* as one arrow in each, or neither."""
        for glyph in self.exact_glyphs:
            glyph.visible = shown

    @property
    def exact_glyphs(self) -> tuple[Any, Any]:
        """What shows V* and π*."""
        return self._values, self._best

    def _acts(self) -> np.ndarray:
        return np.isin(list("".join(self.layout)), [FREE, START])

    def _middle(self, cell: int) -> tuple[float, float]:
        """The middle of a cell on the plot, whose first row is at the top."""
        line, place = divmod(cell, len(self.layout[0]))
        return place + 0.5, -line - 0.5
