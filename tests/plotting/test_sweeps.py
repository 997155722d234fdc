"""The picture of a sweep: a row per setting, the best on top."""

import dataclasses

import numpy as np
import pytest

from rljax import plotting
from rljax.experiment import statistics
from tests.plotting.results import result_with

SCORES = ([1.0, 2.0, 3.0], [7.0, 8.0, 9.0], [4.0, 5.0, 6.0])


def rows_of(figure):
    (axes,) = figure.axes
    return [tick.get_text() for tick in axes.get_yticklabels()]


def test_settings_are_drawn_with_the_best_on_top(names_of):
    figure = plotting.sweep_scores(result_with(SCORES))
    assert rows_of(figure) == ["x=0", "x=2", "x=1"]
    (axes,) = figure.axes
    seeds = [line.get_xydata() for line in axes.lines if line.get_marker() == "."]
    middles = [line.get_xydata() for line in axes.lines if line.get_marker() == "o"]
    bars = [line.get_xydata() for line in axes.lines if line.get_linewidth() == 3]
    for y, i in enumerate((0, 2, 1)):
        np.testing.assert_array_equal(seeds[y], [(x, y) for x in SCORES[i]])
        ends = statistics.bootstrap_interval(SCORES[i])
        np.testing.assert_allclose(bars[y], [(x, y) for x in ends])
        middle = statistics.interquartile_mean(SCORES[i])
        np.testing.assert_allclose(middles[y], [(middle, y)])
    assert names_of(axes) == ["IQM, 95 % bootstrap interval", "one seed"]
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 2


def test_of_equal_settings_the_first_is_on_top():
    result = result_with([[7.0, 8.0], [1.0, 2.0], [7.0, 8.0]])
    rows = rows_of(plotting.sweep_scores(result))
    assert rows == ["x=1", "x=2", "x=0"]
    assert rows[-1] == result.best().label


def test_broken_runs_are_low_and_those_without_a_score_lower():
    scores = [[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]]
    figure = plotting.sweep_scores(result_with(scores, broken=[2]))
    assert rows_of(figure) == ["x=1", "x=2 (2 broken)", "x=0"]
    (axes,) = figure.axes
    assert len([line for line in axes.lines if line.get_marker() == "o"][:-1]) == 1


def test_an_interval_that_reaches_minus_infinity_ends_at_the_lowest_score():
    result = result_with([np.arange(5.0, 13.0)])
    (outcome,) = result.outcomes
    faults = np.array([0, 0, *[-1] * 6])
    broken = dataclasses.replace(
        result, outcomes=(outcome._replace(fault_updates=faults),)
    )
    (axes,) = plotting.sweep_scores(broken).axes
    (bar,) = (line for line in axes.lines if line.get_linewidth() == 3)
    assert bar.get_xdata()[0] == 7.0


def test_a_sweep_is_saved_as_it_is_drawn(drawn):
    figure, (axes,) = drawn(plotting.save_sweep, result_with(SCORES), title="a title")
    assert axes.get_title() == "a title"
    assert rows_of(figure) == ["x=0", "x=2", "x=1"]


def test_arguments_of_another_kind_are_refused_by_name():
    message = "result must be a SweepResult, such as rljax.sweep returns, got"
    with pytest.raises(TypeError, match=message):
        plotting.sweep_scores(np.ones((2, 3)))
    with pytest.raises(TypeError, match="path must be a path, got 3"):
        plotting.save_sweep(3, result_with(SCORES), title="")
