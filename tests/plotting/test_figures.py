"""Figures: shown by a notebook, drawn in the axes that are given, never kept."""

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import rljax
from rljax import planning, plotting, regret
from rljax.tabular.bandits import BanditCurves
from rljax.training import Metrics
from tests.plotting.results import result_with

GRID = rljax.GridWorld(("A.", ".G"))
ONES = np.ones((2, 3))
METRICS = Metrics(np.ones((2, 3), int), ONES, np.ones((2, 3), int), {})
CURVE = regret.ExactReturns(np.arange(3), ONES / 2, ONES / 3, np.ones(2))
CURVES = BanditCurves(np.arange(1, 4), *np.ones((3, 2, 1, 3)))

PLOTS = {
    "learning_curve": (METRICS,),
    "gridworld": (GRID, np.arange(4.0), np.zeros(4, int)),
    "exact_regret": (CURVE,),
    "bandit_regret": (CURVES,),
    "sweep_scores": (result_with([[1.0, 2.0], [3.0, 4.0]]),),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_figure_that_a_notebook_shows(name):
    figure = getattr(plotting, name)(*PLOTS[name])
    assert isinstance(figure, Figure)
    picture = Image.open(io.BytesIO(figure._repr_png_()))
    width, height = figure.get_size_inches() * figure.dpi
    assert picture.size == (int(width), int(height))
    assert len(np.unique(np.asarray(picture).reshape(-1, 4), axis=0)) > 10


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_goes_into_the_axes_that_are_given(name):
    own = Figure()
    left, right = own.subplots(1, 2)
    assert getattr(plotting, name)(*PLOTS[name], ax=right) is own
    assert right.has_data()
    assert not left.has_data()
    assert len(own.axes) == 2
    assert not own.legends
    with pytest.raises(TypeError, match=r"ax must be a Axes, such as .* got <Figure"):
        getattr(plotting, name)(*PLOTS[name], ax=own)


def test_plots_leave_no_trace():
    """No display is asked for, and pyplot, which keeps all figures, is not imported."""
    code = (
        "import sys, numpy as np, rljax; from rljax import plotting;"
        "assert 'matplotlib' not in sys.modules and 'PIL' not in sys.modules;"
        "plotting.gridworld(rljax.GridWorld(('A.', '.G')), np.arange(4.0));"
        "assert 'matplotlib' in sys.modules;"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rljax.plotting.shown", None)
    for name, arguments in PLOTS.items():
        with pytest.raises(ImportError, match=r"pip install 'rljax-core\[plot\]'"):
            getattr(plotting, name)(*arguments)
    plan = planning.value_iteration(GRID.to_mdp(), 0.9)
    with pytest.raises(ImportError, match=r"rljax-core\[plot\]"):
        plotting.save_gridworld(
            "x.png", GRID, plan, plan.q_values, np.arange(3), CURVE, title=""
        )


def test_many_lines_are_told_apart():
    names = [f"run {i}" for i in range(20)]
    figure = plotting.learning_curve(dict.fromkeys(names, METRICS))
    (axes,) = figure.axes
    kinds = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(kinds) == 20
    assert [t.get_text() for t in axes.get_legend().get_texts()] == names
