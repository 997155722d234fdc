"""What is drawn into a file, as a figure."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Calls a function and returns the figure that it saves, and its panels."""

    def draw(save, *arguments, **settings):
        figures = []
        monkeypatch.setattr(Figure, "savefig", lambda f, path, **_: figures.append(f))
        save(tmp_path / "picture.png", *arguments, **settings)
        (figure,) = figures
        return figure, figure.axes

    return draw


@pytest.fixture
def names_of():
    return lambda axes: axes.get_legend_handles_labels()[1]


@pytest.fixture
def legend_of():
    """The words of a panel's legend, as it is seen."""
    return lambda axes: [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.fixture
def line_named():
    """The points [K, 2] of the line with this name in a legend."""

    def find(axes, name):
        (line,) = (line for line in axes.lines if line.get_label() == name)
        return line.get_xydata()

    return find


@pytest.fixture
def band_of():
    """(x, low, high) of the i-th filled band."""

    def find(axes, i=0):
        points = axes.collections[i].get_paths()[0].vertices
        half = len(points) // 2
        lower, upper = points[1:half], points[half + 1 :][::-1][1:]
        return lower[:, 0], lower[:, 1], upper[:, 1]

    return find
