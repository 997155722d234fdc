"""The picture of cart and pole: to scale, and every arrow on its side.

Nothing is learned here, and no browser is opened.
"""

import numpy as np
import pytest

import rljax
from rljax.lab import page
from rljax.lab.cartpole import RANGES
from rljax.lab.polepicture import CART_WIDTH, HEIGHT, WIDTH, PolePicture


@pytest.fixture
def picture():
    return PolePicture()


def show(picture, x=0.0, theta=0.0, length=1.0, agent=0, person=0):
    picture.show(np.array([x, 9.0, theta, 9.0]), length, page.BLUE, agent, person)
    return {name: column[0] for name, column in picture._cart.data.items()}


def way(angle):
    """Where a triangle points; without an angle up, and angles turn it left."""
    return [-np.sin(angle), np.cos(angle)]


def test_a_metre_is_as_long_across_as_upwards(picture):
    across, upwards = picture.plot.x_range, picture.plot.y_range
    assert (picture.plot.width, picture.plot.height) == (WIDTH, HEIGHT)
    # The title and the margins take some 30 pixels of the height, 10 of the width.
    pixels = (WIDTH - 10) / (across.end - across.start)
    assert (HEIGHT - 34) / (upwards.end - upwards.start) == pytest.approx(pixels)
    assert across.start == -across.end < -rljax.CartPole().x_threshold
    assert upwards.start < 0
    longest = show(picture, length=RANGES["length"][1])
    assert longest["top_y"] < upwards.end


@pytest.mark.parametrize("theta", [-0.2, 0.0, 0.15, 1.5])
@pytest.mark.parametrize("length", [0.2, 1.6])
def test_the_pole_stands_on_the_cart_and_leans_as_its_angle_says(
    picture, theta, length
):
    seen = show(picture, x=-1.5, theta=theta, length=length)
    assert seen["x"] == -1.5
    rise = np.subtract((seen["top_x"], seen["top_y"]), (seen["x"], seen["y"]))
    np.testing.assert_allclose(rise, length * np.array([np.sin(theta), np.cos(theta)]))
    assert 0.2 < seen["y"] < 0.3  # on the cart
    assert seen["color"] == page.BLUE
    assert picture._sector.glyph.radius == pytest.approx(0.9 * length)


@pytest.mark.parametrize("direction", [-1, 1])
def test_arrows_point_the_way_of_their_push(picture, direction):
    seen = show(picture, x=0.5, agent=direction, person=direction)
    for name in ("force_angle", "push_angle"):
        np.testing.assert_allclose(way(seen[name]), [direction, 0], atol=1e-9)
    # The agent's is ahead of the cart, a person's behind it: neither hides the cart.
    ahead, behind = (direction * (seen[n] - 0.5) for n in ("force_x", "push_x"))
    assert CART_WIDTH / 2 < ahead < CART_WIDTH
    assert -2 * CART_WIDTH < behind < -CART_WIDTH / 2 - 0.2
    for one, other in (("agent", "push_x"), ("person", "force_x")):
        alone = show(picture, x=0.5, **{one: direction})
        assert np.isnan(alone[other])
        assert np.isfinite(alone["force_x" if one == "agent" else "push_x"])


def test_nobody_pushes_without_an_arrow(picture):
    seen = show(picture)
    assert np.isnan(seen["force_x"]) and np.isnan(seen["push_x"])


def test_the_last_episode_s_end_stays_until_there_is_none(picture):
    names = ("x", "y", "top_x", "top_y")
    seen = show(picture, x=2.4, theta=0.21, length=0.8)
    picture.show_fallen(np.array([2.4, 0.0, 0.21, 0.0]), 0.8)
    fallen = picture._fallen.data
    assert [fallen[name][0] for name in names] == [seen[name] for name in names]
    picture.show_fallen(None, 0.8)
    assert all(np.isnan(picture._fallen.data[name][0]) for name in names)


def test_the_sector_is_of_the_angles_at_which_an_episode_goes_on(picture):
    limit = rljax.CartPole().theta_threshold
    sector = picture._sector.glyph
    found = [sector.start_angle, sector.end_angle]
    np.testing.assert_allclose(found, [np.pi / 2 - limit, np.pi / 2 + limit])
    # It is about the cart's axle, as the pole.
    assert (sector.x, sector.y) == ("x", "y")
    assert picture._sector.data_source is picture._cart
