"""Regret on bandits: means over bandits of each rule's best setting."""

import numpy as np
import pytest

from rljax import plotting
from rljax.experiment import statistics
from rljax.tabular.bandits import BanditCurves

PULLS = np.array([1, 3, 6])
BOUND = np.array([0.5, 0.7, 0.9])
BOUND_NAME = "Lai–Robbins, each arm's term at most Δ·t"
LABELS = {"UCB": ["c=1", "c=2"], "greedy": ["ε=0"]}


@pytest.fixture
def regrets():
    """[B, G, K], the second setting of two being the best on four bandits."""
    regrets = np.random.default_rng(0).uniform(1, 9, (4, 2, 3))
    regrets[:, 0, -1] += 9
    return regrets


@pytest.fixture
def optimal():
    shares = np.random.default_rng(1).uniform(0, 1, (4, 2, 3))
    return np.cumsum(shares * np.diff(PULLS, prepend=0), -1)


@pytest.fixture
def curves(regrets, optimal):
    """Two settings of one rule, and of another that is the first one's first."""
    both = BanditCurves(PULLS, regrets, 2 * regrets, optimal)
    return {"UCB": both, "greedy": BanditCurves(PULLS, *(x[:, :1] for x in both[1:]))}


def test_regret_is_that_of_each_rule_s_best_setting(
    curves, regrets, names_of, legend_of, line_named, band_of
):
    (axes,) = plotting.bandit_regret(curves, lower_bound=BOUND).axes
    assert names_of(axes) == ["UCB", "greedy", BOUND_NAME]
    for i, (name, setting) in enumerate((("UCB", 1), ("greedy", 0))):
        found = line_named(axes, name)
        np.testing.assert_array_equal(found[:, 0], PULLS)
        np.testing.assert_allclose(found[:, 1], regrets[:, setting].mean(0))
        ends = statistics.mean_interval(regrets[:, setting])[1:]
        np.testing.assert_allclose(band_of(axes, i)[1:], ends)
    np.testing.assert_array_equal(line_named(axes, BOUND_NAME)[:, 1], BOUND)
    assert legend_of(axes) == ["UCB", "greedy", BOUND_NAME]
    assert (axes.get_yscale(), axes.get_xlabel()) == ("log", "pulls")
    (axes,) = plotting.bandit_regret(curves, LABELS).axes
    assert names_of(axes) == ["UCB, c=2", "greedy, ε=0"]


def test_a_lone_rule_needs_no_name(curves, regrets, line_named):
    (axes,) = plotting.bandit_regret(curves["UCB"]).axes
    found = line_named(axes, "expected regret")
    np.testing.assert_allclose(found[:, 1], regrets[:, 1].mean(0))


def test_regrets_are_counted_in_plain_numbers(curves):
    figure = plotting.bandit_regret(curves)
    figure.draw_without_rendering()
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert {"1", "2", "5", "10"} <= set(ticks)


def test_saved_curves_have_shares_and_all_settings(
    drawn, curves, regrets, optimal, line_named
):
    figure, (expected, settings, share) = drawn(
        plotting.save_bandit_curves, curves, LABELS, title="a title", lower_bound=BOUND
    )
    assert figure.get_suptitle() == "a title"
    shares = 100 * np.diff(optimal, prepend=0) / np.diff(PULLS, prepend=0)
    for axes, values in ((expected, regrets), (share, shares)):
        found = line_named(axes, "UCB, c=2")
        np.testing.assert_array_equal(found[:, 0], PULLS)
        np.testing.assert_allclose(found[:, 1], values[:, 1].mean(0))
    np.testing.assert_array_equal(line_named(expected, BOUND_NAME)[:, 1], BOUND)
    # The best on top, below it those that do worse.
    ticks = [tick.get_text() for tick in settings.get_yticklabels()]
    assert ticks == ["UCB, c=1", "greedy, ε=0", "UCB, c=2"]
    ends = [line.get_xdata()[0] for line in settings.lines if line.get_marker() == "o"]
    means = regrets[..., -1].mean(0)
    np.testing.assert_allclose(ends, [means[0], means[0], means[1]])
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["UCB, c=2", "greedy, ε=0", BOUND_NAME]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"curves": PULLS}, "curves must be a Mapping, such as bandits.compare"),
        ({"curves": {}}, "curves must have a rule at least, got {}"),
        ({"curves": {"a": PULLS}}, "curves.'a'. must be a BanditCurves"),
        ({"labels": {}}, "labels must be a dictionary with 'UCB', 'greedy', got {}"),
        ({"lower_bound": BOUND[:2]}, r"lower_bound \(2,\), pulls \(3,\)"),
    ],
)
def test_wrong_arguments_are_refused_by_name(curves, arguments, message):
    usual = {"curves": curves, "labels": LABELS}
    for function, more in (
        (plotting.bandit_regret, {}),
        (plotting.save_bandit_curves, {"path": "x.png", "title": ""}),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            function(**{**usual, **arguments, **more})
