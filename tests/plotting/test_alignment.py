"""Alignment: runs beside the frontier, gaps, and over-optimisation."""

import numpy as np
import pytest

from rljax import plotting


def test_alignment_shows_runs_beside_the_frontier(
    drawn, names_of, legend_of, line_named
):
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
    for axes in (pareto, learning, over):
        assert legend_of(axes) == names_of(axes)
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


def test_wrong_arguments_are_refused_by_name():
    one = plotting.Alignment(np.ones(3), np.ones(3))
    usual = {
        "frontier": one,
        "runs": {"PPO": one},
        "gaps": {"PPO": np.ones((3, 2))},
        "proxy": (one, one),
        "proxy_runs": (one, one),
        "prices": {0.1: (1.0, 1.0)},
    }
    for arguments, message in (
        ({"frontier": 3}, "frontier must be a Alignment, such as"),
        ({"runs": {"PPO": 3}}, "runs must be a Alignment, such as"),
        ({"gaps": {"RLOO": 3}}, "gaps must be a dictionary with 'PPO', got"),
        ({"proxy": (one,)}, "proxy and proxy_runs must be pairs, .* got 1 and 2"),
        ({"prices": [0.1]}, "prices must be a Mapping, such as"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            plotting.save_alignment("x.png", **{**usual, **arguments}, title="")
