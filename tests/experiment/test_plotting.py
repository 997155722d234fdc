"""Pictures: what is drawn is what was passed, and every line has its name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import rljax
from rljax import planning, regret
from rljax.experiment import plotting
from rljax.experiment import statistics as metrics
from rljax.tabular.bandits import BanditCurves
from rljax.training import Metrics


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Calls a function and returns the panels of the figure that it saves."""

    def draw(save, *arguments, **settings):
        figures = []
        monkeypatch.setattr(Figure, "savefig", lambda f, path, **_: figures.append(f))
        save(tmp_path / "picture.png", *arguments, **settings)
        (figure,) = figures
        return figure, figure.axes

    return draw


def names_of(axes):
    return axes.get_legend_handles_labels()[1]


def line_named(axes, name):
    (line,) = (line for line in axes.lines if line.get_label() == name)
    return line.get_xydata()


def test_a_learning_curve_is_the_middle_of_its_seeds(drawn):
    rng = np.random.default_rng(0)
    returns = rng.uniform(0, 100, (5, 6))
    ones = jnp.ones((5, 6), jnp.int32)
    data = Metrics(ones, jnp.asarray(returns), ones, {})
    _, (axes,) = drawn(
        plotting.save_learning_curve, data, steps_per_update=10, title="a title"
    )
    assert axes.get_title() == "a title"
    assert axes.get_xlabel() == "environment steps per seed"
    assert axes.get_ylabel() == "episode return in training"
    found = line_named(axes, "IQM of 5 seeds")
    expected = [metrics.interquartile_mean(column) for column in returns.T]
    np.testing.assert_allclose(found[:, 0], 10 * np.arange(1, 7))
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-5)
    for seed, line in zip(returns, axes.lines[:5], strict=True):
        np.testing.assert_allclose(line.get_ydata(), seed, rtol=1e-5)
    assert set(names_of(axes)) == {
        "IQM of 5 seeds",
        "95 % bootstrap interval",
        "one seed",
    }
    assert axes.get_xlim() == (0, 60)


def test_settings_are_drawn_with_the_best_on_top(drawn):
    result = rljax.sweep(
        rljax.QLearning(
            exploration=rljax.exploration.EpsilonGreedy(0.1), rollout_length=10
        ),
        rljax.make("GridWorld-5x5", max_steps=5),
        jax.random.key(0),
        num_seeds=3,
        num_updates=1,
        settings={"step_size": [0.1, 0.2, 0.3]},
    )
    scores = ([1.0, 2.0, 3.0], [7.0, 8.0, 9.0], [4.0, 5.0, 6.0])
    outcomes = []
    for outcome, values in zip(result.outcomes, scores, strict=True):
        played = np.array(values)[:, None]  # [3 seeds, 1 episode]
        evaluation = rljax.Evaluation(played, np.ones((3, 1)), np.ones((3, 1), bool))
        outcomes.append(outcome._replace(evaluation=evaluation))
    result = dataclasses.replace(result, outcomes=tuple(outcomes))
    _, (axes,) = drawn(plotting.save_sweep, result, title="a title")
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    assert [tick.split()[0] for tick in ticks] == [
        "step_size=0.1",
        "step_size=0.3",
        "step_size=0.2",
    ]
    dots = [line for line in axes.lines if line.get_marker() == "."][:3]
    np.testing.assert_array_equal(dots[0].get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(dots[1].get_xdata(), [4, 5, 6])
    np.testing.assert_array_equal(dots[2].get_ydata(), [2, 2, 2])
    assert axes.get_title() == "a title"
    assert names_of(axes) == ["IQM, 95 % bootstrap interval", "one seed"]
    # Of equal ones the first is the best, so it is on top.
    tied = dataclasses.replace(
        result, outcomes=(outcomes[1], outcomes[1]._replace(setting={"x": 1}))
    )
    _, (axes,) = drawn(plotting.save_sweep, tied, title="a title")
    top = axes.get_yticklabels()[-1].get_text()
    assert top == tied.best().label == "step_size=0.2"
    # One without a score is below all others, even below one that broke.
    nothing = rljax.Evaluation(*[np.full((3, 1), np.nan)] * 2, np.zeros((3, 1), bool))
    several = (
        outcomes[0],
        outcomes[1]._replace(evaluation=nothing),
        outcomes[2]._replace(fault_updates=np.ones(3, int)),
    )
    unknown = dataclasses.replace(result, outcomes=several)
    _, (axes,) = drawn(plotting.save_sweep, unknown, title="a title")
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    assert ticks == ["step_size=0.2", "step_size=0.3 (3 broken)", "step_size=0.1"]


def test_bandit_curves_are_means_over_bandits(drawn):
    rng = np.random.default_rng(0)
    pulls = np.array([1, 3, 6])
    # Two settings of one rule on four bandits, and one of another.
    optimal = np.cumsum(rng.uniform(0, 1, (4, 2, 3)) * np.diff(pulls, prepend=0), -1)
    regrets, realised = rng.uniform(1, 9, (2, 4, 2, 3))
    curves = {"UCB": BanditCurves(pulls, regrets, realised, optimal)}
    curves["greedy"] = BanditCurves(pulls, *(x[:, :1] for x in curves["UCB"][1:]))
    labels = {"UCB": ["c=1", "c=2"], "greedy": ["ε=0"]}
    bound = np.array([0.5, 0.7, 0.9])
    regrets[:, 0, -1] += 9  # so that the rule's second setting is its best
    figure, (expected, settings, share) = drawn(
        plotting.save_bandit_curves, curves, labels, title="a title", lower_bound=bound
    )
    assert figure.get_suptitle() == "a title"
    for axes, values in (
        (expected, regrets),
        (share, 100 * np.diff(optimal, prepend=0) / np.diff(pulls, prepend=0)),
    ):
        found = line_named(axes, "UCB, c=2")
        np.testing.assert_array_equal(found[:, 0], pulls)
        np.testing.assert_allclose(found[:, 1], values[:, 1].mean(0))
    name = "Lai–Robbins, each arm's term at most Δ·t"
    np.testing.assert_array_equal(line_named(expected, name)[:, 1], bound)
    # The best on top, below it those that do worse; "greedy" is UCB's first setting.
    ticks = [tick.get_text() for tick in settings.get_yticklabels()]
    assert ticks == ["UCB, c=1", "greedy, ε=0", "UCB, c=2"]
    ends = [line.get_xdata()[0] for line in settings.lines if line.get_marker() == "o"]
    means = regrets[..., -1].mean(0)
    np.testing.assert_allclose(ends, [means[0], means[0], means[1]])
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["UCB, c=2", "greedy, ε=0", name]


def test_a_grid_shows_both_policies_and_the_regret(drawn):
    grid = rljax.GridWorld(("A#", ".G"))
    plan = planning.value_iteration(grid.to_mdp(), 0.9)
    q_values = np.zeros((4, 4))
    q_values[0, 3], q_values[2, 0] = 2.0, 3.0
    rng = np.random.default_rng(0)
    greedy, behaviour = rng.uniform(0, 1, (2, 5, 3))
    curve = regret.ExactReturns(np.arange(3), greedy, behaviour, np.full(5, 1.0))
    steps = np.array([0, 10, 20])
    figure, axes = drawn(
        plotting.save_gridworld, grid, plan, q_values, steps, curve, title="a title"
    )
    assert figure.get_suptitle() == "a title"
    planned, learned, regrets = axes[:3]
    assert len(axes) == 3  # each value is in its cell, so there is no bar of colours
    arrows = rljax.envs.gridworld.ARROWS
    for panel, actions, values in (
        (learned, (3, 0), ("2.00", "3.00")),
        (planned, plan.policy[jnp.array([0, 2])], ("0.89", "1.00")),
    ):
        texts = [text.get_text() for text in panel.texts]
        first, second = (arrows[int(action)] for action in actions)
        assert texts == [first, values[0], "", second, values[1], "G"]
    # The wall and the goal have colours of their own, and the start a frame.
    edges = [patch.get_edgecolor()[:3] for patch in learned.patches if not patch.fill]
    assert len(learned.patches) == 3
    assert edges == [to_rgb("tab:red")]
    shown = learned.images[0].get_array()
    np.testing.assert_array_equal(shown.mask, [[False, True], [False, True]])
    np.testing.assert_array_equal(shown.compressed(), [2.0, 3.0])
    for name, values in (("greedy", greedy), ("behaviour", behaviour)):
        found = line_named(regrets, f"{name} policy, mean")
        np.testing.assert_array_equal(found[:, 0], steps)
        np.testing.assert_allclose(found[:, 1], (1 - values).mean(0))
    assert names_of(regrets)[-1] == "greedy, middle 90 % of seeds"
    with pytest.raises(ValueError, match=r"curve must be of several seeds, .* \(3,\)"):
        plotting.save_gridworld(
            "x.png",
            grid,
            plan,
            q_values,
            steps,
            jax.tree.map(lambda x: x[0], curve),
            title="",
        )


@pytest.mark.parametrize(("text", "bars"), [("A" + "." * 8 + "G", 1), ("A.G", 0)])
def test_a_large_grid_has_a_bar_of_colours_in_the_place_of_numbers(drawn, text, bars):
    grid = rljax.GridWorld((text,))
    plan = planning.value_iteration(grid.to_mdp(), 0.9)
    ones = np.ones((2, 3))
    curve = regret.ExactReturns(np.arange(3), ones, ones, np.ones(2))
    learned = plan.q_values, np.arange(3), curve
    _, axes = drawn(plotting.save_gridworld, grid, plan, *learned, title="")
    assert len(axes) == 3 + bars
    numbers = [text for text in axes[0].texts if "." in text.get_text()]
    assert len(numbers) == (0 if bars else 2)


def test_alignment_shows_runs_beside_the_frontier(drawn):
    rng = np.random.default_rng(0)

    def points(*shape):
        return plotting.Alignment(*rng.uniform(1, 2, (2, *shape)))

    frontier, runs = points(7), {"PPO": points(4), "RLOO": points(4)}
    gaps = {name: rng.uniform(0.1, 1, (4, 6)) for name in runs}
    proxy, trained = (points(3, 7), points(3, 7)), (points(3, 2), points(3, 2))
    figure, (pareto, learning, over) = drawn(
        plotting.save_alignment,
        frontier,
        runs,
        gaps,
        proxy,
        trained,
        prices={0.1: (1.5, 1.25)},
        title="a title",
    )
    assert figure.get_suptitle() == "a title"
    assert names_of(pareto) == ["exact frontier", "PPO", "RLOO"]
    np.testing.assert_array_equal(line_named(pareto, "exact frontier").T, frontier)
    np.testing.assert_array_equal(line_named(pareto, "RLOO").T, runs["RLOO"])
    (price,) = pareto.texts
    assert (price.get_text(), price.xy) == ("β = 0.1", (1.5, 1.25))
    for name in runs:
        found = line_named(learning, name)[:, 1]
        np.testing.assert_allclose(found, np.median(gaps[name], axis=0))
    for kind, optima, own in zip(("proxy", "true"), proxy, trained, strict=True):
        found = line_named(over, f"{kind}, mean of optima")
        np.testing.assert_allclose(found.T, [x.mean(0) for x in optima])
        found = line_named(over, f"{kind}, a run")
        np.testing.assert_allclose(found.T, [x.ravel() for x in own])
    assert (pareto.get_ylabel(), over.get_ylabel()) == ("E[r]", "E[reward]")
    assert learning.get_yscale() == "log"
