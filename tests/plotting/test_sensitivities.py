"""The picture of one field of a sweep: a curve per agent, its axis as values ask."""

import dataclasses

import numpy as np
import pytest

from rljax import plotting
from rljax.experiment import selection
from tests.plotting.results import result_with


def swept(settings):
    rng = np.random.default_rng(0)
    result = result_with(rng.normal(size=(len(settings), 5)))
    outcomes = [
        outcome._replace(setting=setting)
        for outcome, setting in zip(result.outcomes, settings, strict=True)
    ]
    return dataclasses.replace(result, outcomes=tuple(outcomes))


def test_a_curve_and_a_band_for_each_agent(names_of, legend_of):
    rates = (1e-2, 1e-3, 1e-4)
    result = swept([{"agent": a, "rate": r} for a in "pq" for r in rates])
    figure = plotting.sensitivity(result, "rate")
    (axes,) = figure.axes
    assert names_of(axes) == legend_of(axes) == ["agent=p", "agent=q"]
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rate", "mean return")
    curves = selection.sensitivity(result, "rate")
    for line, band, curve in zip(
        axes.lines, axes.collections, curves.values(), strict=True
    ):
        np.testing.assert_array_equal(line.get_xdata(), rates[::-1])
        np.testing.assert_array_equal(line.get_ydata(), curve.iqm[::-1])
        corners = band.get_paths()[0].vertices
        assert corners[:, 1].min() == curve.low.min()
        assert corners[:, 1].max() == curve.high.max()
    own = axes.figure
    assert plotting.sensitivity(result, "rate", per=[], ax=axes) is own
    assert names_of(axes)[2:] == ["IQM"]


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        ((1.0, 2.0, 4.0), "linear", None),
        ((0.0, 1.0, 10.0), "linear", None),
        ((2, 10), "log", None),
        ((True, False), "linear", ["True", "False"]),
        (("tanh", "relu"), "linear", ["tanh", "relu"]),
        ((0.5, None), "linear", ["0.5", "None"]),
    ],
)
def test_the_axis_is_as_the_values_are(values, scale, ticks):
    figure = plotting.sensitivity(swept([{"x": value} for value in values]), "x")
    (axes,) = figure.axes
    assert axes.get_xscale() == scale
    if ticks:
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ticks
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), range(len(ticks)))
