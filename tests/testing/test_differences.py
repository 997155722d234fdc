"""Slopes of a cubic, of which every difference is known by hand."""

import numpy as np
import pytest

from rljax.testing import differences
from rljax.testing.differences import STEPS, Slopes


def values_of(functions, points):
    """What `values_along` would say: at the points, above them, below them."""
    offsets = np.concatenate([[0.0], STEPS, -STEPS])
    rows = zip(functions, points, strict=True)
    return np.array([fn(point + offsets) for fn, point in rows])


def test_the_slopes_of_a_cubic_are_those_by_hand():
    # (1 ± h)³ = 1 ± 3h + 3h² ± h³, and at 0 there is h³ alone.
    slopes = Slopes(values_of(2 * [lambda x: x**3], [1.0, 0.0]), np.ones(2))
    tolerance = {"rtol": 1e-6, "atol": 1e-6}
    h = STEPS
    by_hand = {
        "left": [3 - 3 * h + h**2, h**2],
        "right": [3 + 3 * h + h**2, h**2],
        "jump": [6 * h, 0 * h],
        "change": [np.append(np.inf, h[:-1] ** 2 - h[1:] ** 2)] * 2,
    }
    for name, expected in by_hand.items():
        np.testing.assert_allclose(getattr(slopes, name), expected, **tolerance)
    assert slopes.noise.shape == slopes.left.shape
    assert not slopes.stays[0, :4].any()
    # Between the error of the step, h², and that of rounding, 1e-16/h.
    assert 1e-6 <= STEPS[slopes.chosen[0]] <= 1e-4
    np.testing.assert_allclose(slopes.best, [3, 0], atol=1e-8)
    np.testing.assert_array_equal(
        slopes.at_chosen(slopes.change), slopes.change[[0, 1], slopes.chosen]
    )


def test_steps_are_in_proportion_to_a_length():
    offsets = np.concatenate([[0.0], STEPS, -STEPS])
    slopes = Slopes((2 + 100 * offsets)[None] ** 2, np.array([100.0]))
    np.testing.assert_allclose(slopes.best, 4, atol=1e-6)


@pytest.mark.parametrize(
    ("fn", "kinks", "jumps"),
    [
        (lambda x: x**2, 0, 0),
        (lambda x: np.maximum(x, 0) - 0.25 * x, 1, 0),
        (lambda x: np.where(x >= 0, 1.0, 0.0), 0, 1),
    ],
)
def test_kinks_and_jumps_are_told_apart(fn, kinks, jumps):
    slopes = Slopes(values_of([fn, np.sin], [0.0, 1.0]), np.ones(2))
    along = np.array([7.0, 8.0])
    found = differences.find_kinks(["x", "y"], along, slopes, np.full(2, 1e-3))
    assert [len(one) for one in found] == [kinks, jumps]
    for kink in found[0]:
        assert (kink.where, kink.gradient) == ("x", 7.0)
        np.testing.assert_allclose([kink.left, kink.right], [-0.25, 0.75], rtol=1e-6)
