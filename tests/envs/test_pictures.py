"""Pictures: what stands where, in which colour, read from the pixels."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.envs import pictures
from rljax.envs.bandit import BanditState
from rljax.envs.cartpole import CartPoleState
from rljax.envs.catch import CatchState
from rljax.envs.deepsea import DeepSeaState
from tests import probes


def color(name):
    return tuple(bytes.fromhex(name.removeprefix("#")))


AGENT, GOLD, DANGER, INK, PAPER = map(
    color,
    (pictures.AGENT, pictures.GOLD, pictures.DANGER, pictures.INK, pictures.PAPER),
)


def places(picture, color):
    """(rows, columns) of the pixels of exactly this colour."""
    return np.nonzero((picture == color).all(-1))


def pole(x=0.0, theta=0.0, size=400, **settings):
    state = CartPoleState(*map(jnp.float32, (x, 0.0, theta, 0.0)))
    return rljax.CartPole(**settings).render(state, size=size)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("CartPole-v1", (200, 400, 3)),
        ("Acrobot-v1", (400, 400, 3)),
        ("MountainCar-v0", (200, 400, 3)),
        ("MountainCarContinuous-v0", (200, 400, 3)),
        ("Pendulum-v1", (400, 400, 3)),
        ("GridWorld-7x7", (399, 399, 3)),  # 57 pixels a cell
        ("CliffWalking", (132, 396, 3)),
        ("FrozenLake-8x8", (400, 400, 3)),
        ("Taxi-v3", (400, 400, 3)),
        ("GaussianBandit-5", (240, 400, 3)),
        ("BernoulliBandit-5", (240, 400, 3)),
        pytest.param("MinAtar/Asterix-v1", (400, 400, 3), marks=pytest.mark.slow),
        ("MinAtar/Breakout-v1", (400, 400, 3)),
        pytest.param("MinAtar/Freeway-v1", (400, 400, 3), marks=pytest.mark.slow),
        ("MinAtar/SpaceInvaders-v1", (400, 400, 3)),
        ("Catch", (400, 200, 3)),
        ("DeepSea-10", (396, 360, 3)),
    ],
)
def test_every_environment_with_a_picture_has_one_of_its_shape(name, shape, key):
    env = rljax.make(name)
    state, _ = env.reset(key)
    picture = env.render(state)
    assert (picture.shape, picture.dtype) == (shape, np.uint8)
    assert picture.flags.writeable
    smaller = env.render(state, size=200)
    assert max(smaller.shape) in (198, 196, 192, 200)
    # Both show the same: the colours cover as much of them.
    for kind in (AGENT, GOLD, DANGER, INK):
        shares = [len(places(x, kind)[0]) / x[..., 0].size for x in (picture, smaller)]
        assert shares[0] == pytest.approx(shares[1], abs=0.05)


# Cart and pole.


def cart_of(picture):
    """The column of the cart's middle."""
    _, columns = places(picture, AGENT)
    return (columns.min() + columns.max()) / 2


def tip_of(picture, name="#c26a2d"):
    """Row and column of the pole's upper end."""
    rows, columns = places(picture, color(name))
    top = rows.min()
    return top, columns[rows == top].mean()


def test_the_cart_moves_with_its_state():
    # 400 pixels are two and a half thresholds of 2.4 m.
    for x in (-2.0, -0.5, 0.0, 1.0, 2.0):
        assert cart_of(pole(x)) == pytest.approx(199.5 + x * 400 / 6, abs=1)
    wide = pole(1.0, x_threshold=4.8)
    assert cart_of(wide) == pytest.approx(199.5 + 400 / 12, abs=1)
    assert cart_of(pole(1.0, size=200)) == pytest.approx(99.5 + 200 / 6, abs=1)


def test_the_pole_leans_as_its_angle_says():
    upright_row, upright_column = tip_of(pole(0.3))
    assert upright_column == pytest.approx(cart_of(pole(0.3)), abs=1)
    for theta in (-0.2, -0.1, 0.1, 0.2):
        row, column = tip_of(pole(0.3, theta))
        # The pole is 1 m long, and 66.7 pixels.
        assert column - upright_column == pytest.approx(66.7 * math.sin(theta), abs=2.5)
        assert row >= upright_row
    longer = tip_of(pole(0.3, half_length=0.75))[0]
    assert longer == pytest.approx(upright_row - 0.5 * 66.7, abs=2)


@pytest.mark.parametrize(("x", "theta"), [(0.0, 0.0), (1.0, 0.1), (-0.7, 0.5)])
def test_the_mirror_image_of_a_state_is_the_mirror_image_of_its_picture(x, theta):
    picture, other = pole(x, theta).astype(int), pole(-x, -theta).astype(int)
    # Edges may be off by half a pixel, which makes lines of a pixel and no spots.
    differs = np.abs(picture - other[:, ::-1]).max(-1) > 100
    spots = differs[1:, 1:] & differs[:-1, 1:] & differs[1:, :-1] & differs[:-1, :-1]
    assert not spots.any()


def test_a_pole_of_any_length_fits():
    for half_length in (0.05, 3.0, 30.0):
        row, _ = tip_of(pole(half_length=half_length))
        assert row > 0


def test_the_track_has_posts_at_its_thresholds():
    _, columns = places(pole(), DANGER)
    middles = [columns[columns < 200].mean(), columns[columns > 200].mean()]
    np.testing.assert_allclose(middles, [199.5 - 160, 199.5 + 160], atol=1)
    rows, columns = places(pole()[150:], INK)
    assert np.ptp(columns[rows < 12]) == 399  # from edge to edge


@pytest.mark.parametrize("theta", [0.3, -0.3, math.pi / 2, -math.pi, 3.0])
def test_a_pole_that_has_fallen_is_drawn_in_another_colour(theta):
    picture = pole(0.3, theta)
    assert not len(places(picture, color("#c26a2d"))[0])
    _, columns = places(picture[:159], DANGER)
    near = np.abs(columns - cart_of(picture)) < 80
    assert near.sum() > 150
    if abs(math.sin(theta)) > 0.2:
        side = columns[near].mean() - cart_of(picture)
        assert np.sign(side) == np.sign(math.sin(theta))
    assert not len(places(pole(2.5), color("#c26a2d"))[0])  # off the track


def test_the_sector_holds_the_angles_before_the_fall():
    safe = color("#e6ebef")

    def half_angle(**settings):
        picture = pole(**settings)
        rows, columns = places(picture, safe)
        high = rows == rows.min() + 2
        across = columns[high].max() - columns[high].min()
        return math.asin(across / 2 / (1.08 * 66.7))

    assert half_angle() == pytest.approx(math.radians(12), abs=0.03)
    assert half_angle(theta_threshold=0.1) == pytest.approx(0.1, abs=0.03)


# Grids.


def cell_of(picture, row, column, length):
    return picture[row * length : (row + 1) * length, column * length :][:, :length]


def share(picture, color):
    return len(places(picture, color)[0]) / picture[..., 0].size


@pytest.fixture
def grid():
    return rljax.GridWorld(("A.#", "P.G", "...", "..#"))


@pytest.mark.parametrize("length", [100, 20, 5])
def test_cells_have_the_colours_of_their_kind(grid, length):
    picture = grid.render(9, size=4 * length)
    assert picture.shape == (4 * length, 3 * length, 3)
    for (row, column), kind, least in (
        ((0, 2), INK, 0.99),
        ((3, 2), INK, 0.99),
        ((1, 0), DANGER, 0.6),
        ((1, 2), GOLD, 0.6),
        ((2, 1), PAPER, 0.7),
        ((0, 0), color("#d7e6f3"), 0.5),
    ):
        assert share(cell_of(picture, row, column, length), kind) > least
    # A goal has a star, a pit its letter: not one colour alone.
    assert (share(cell_of(picture, 1, 2, length), GOLD) > 0.99) == (length == 5)


def test_a_goal_has_a_star_of_five_points(grid):
    star = np.pad(cell_of(grid.render(9, size=1200), 1, 2, 300), ((0, 0),) * 3)
    rows, columns = places(star[3:-3, 3:-3], PAPER)  # without the lines at the edges
    up, right = 146.5 - rows, columns - 146.5
    # Its points are 0.3 of a cell from the middle, the corners between them 0.13.
    area = 5 * 0.3 * 0.13 * math.sin(math.pi / 5)
    assert len(rows) / 300**2 == pytest.approx(area, rel=0.05)
    for i in range(5):
        angle = 2 * math.pi * i / 5
        along = right * math.sin(angle) + up * math.cos(angle)
        assert along.max() == pytest.approx(0.3 * 300, abs=5)
        assert along.min() > -0.3 * 300  # a fifth of a turn on there is a point again
    np.testing.assert_allclose([up.mean(), right.mean()], 0, atol=1)


@pytest.mark.parametrize("cell", range(12))
def test_the_agent_is_where_its_state_says(grid, cell):
    picture, length = grid.render(jnp.int32(cell), size=80), 20
    for other in range(12):
        part = cell_of(picture, *divmod(other, 3), length)
        disc = part[7:13, 7:13]
        assert (share(disc, AGENT) == 1.0) == (other == cell)


def test_pictures_of_one_map_do_not_mark_each_other(grid):
    first = grid.render(1)
    grid.render(2)[:] = 0
    np.testing.assert_array_equal(grid.render(1), first)


def test_a_map_of_more_cells_than_pixels_is_drawn_cell_by_cell():
    grid = rljax.GridWorld(("A" + "." * 98 + "G",))
    picture = grid.render(50, size=16)
    assert picture.shape == (1, 100, 3)
    assert tuple(picture[0, 50]) != tuple(picture[0, 51])


# Bandits.


def test_the_best_arm_is_gold_and_bars_are_as_high_as_their_means():
    env = rljax.BernoulliBandit(num_arms=4, means=[0.2, 0.8, 0.4, 0.8])
    picture = env.render(BanditState(env.means))
    heights = []
    for i, kind in enumerate((AGENT, GOLD, AGENT, GOLD)):
        column = int(12 + (i + 0.5) * 94) - 20
        rows, _ = places(picture[:, column : column + 4], kind)
        heights.append(np.ptp(rows) + 1)
    # From 0 to 1 there are 0.72 of 240 pixels.
    np.testing.assert_allclose(heights, np.array(env.means) * 172.8, atol=2)
    assert not len(places(picture[:, 20:80], GOLD)[0])


def test_a_bar_below_zero_hangs():
    env = rljax.GaussianBandit(num_arms=2, means=[-1.0, 1.0], noise_scale=0.0)
    picture = env.render(BanditState(np.asarray(env.means)))
    low, _ = places(picture[:, :200], AGENT)
    high, _ = places(picture[:, 200:], GOLD)
    assert low.min() >= high.max()
    assert np.ptp(low) == pytest.approx(np.ptp(high), abs=2)


def test_whiskers_are_a_standard_deviation_to_either_side():
    def whisker(noise):
        env = rljax.GaussianBandit(num_arms=1, means=[1.0], noise_scale=noise)
        picture = env.render(BanditState(np.ones(1)))
        rows, _ = places(picture[:120, 199:201], INK)
        return np.ptp(rows) if len(rows) else 0

    # The picture is of 0 to 1 + σ, 173 pixels; what is below row 120 is not counted.
    assert whisker(0.0) == 0
    assert whisker(0.25) == pytest.approx(2 * 0.25 / 1.25 * 172.8, abs=3)


def test_a_picture_has_room_for_what_the_arms_may_be():
    for settings, low, high in (
        # Two standard deviations of the means about theirs, one of the rewards, and 0.
        ({"mean_loc": 1.0, "mean_scale": 0.5, "noise_scale": 0.3}, -0.3, 2.3),
        ({"mean_loc": 5.0, "mean_scale": 2.0, "noise_scale": 0.5}, 0.0, 9.5),
        ({"mean_loc": -3.0, "mean_scale": 0.25, "noise_scale": 0.0}, -3.5, 0.0),
        ({"means": [2.0, -1.0], "noise_scale": 0.5}, -1.5, 2.5),
        ({"means": [0.0, 0.0], "noise_scale": 0.0}, 0.0, 1.0),  # not nothing
    ):
        env = rljax.GaussianBandit(num_arms=2, **settings)
        noise = env.noise_scale
        usual = np.full(2, env.mean_loc) if env.means is None else np.array(env.means)
        assert env._limits(usual) == (pytest.approx((low, high)), noise)
        # Means that have drifted beyond that have room as well.
        assert env._limits(np.array([-99.0, 99.0])) == (
            (-99 - noise, 99 + noise),
            noise,
        )
    # From the one to the other there are 0.72 of 240 pixels.
    picture = rljax.GaussianBandit(num_arms=1).render(BanditState(np.ones(1)))
    rows, columns = places(picture, GOLD)
    bar = np.ptp(rows[columns == columns.min()]) + 1
    assert bar == pytest.approx(172.8 * 1.0 / 2.6, abs=2)


def test_means_that_drift_move_in_a_picture_that_stands_still():
    env = rljax.GaussianBandit(num_arms=2, drift_scale=0.1)
    heights = []
    for mean in (0.5, 1.0):
        picture = env.render(BanditState(np.array([mean, 0.1])))
        heights.append(np.ptp(places(picture, GOLD)[0]) + 1)
    assert heights[1] == pytest.approx(2 * heights[0], abs=2)
    far = env.render(BanditState(np.array([50.0, 0.1])))
    assert places(far, GOLD)[0].min() > 10


def test_the_number_of_a_mean_stands_beyond_its_whisker():
    means = np.array([0.9, -0.6, 0.3, -1.0])
    env = rljax.GaussianBandit(num_arms=4, means=tuple(means), noise_scale=0.3)
    picture = env.render(BanditState(means))
    for i, mean in enumerate(means):
        middle = int(12 + (i + 0.5) * 94)
        whisker, _ = places(picture[:212, middle - 1 : middle + 1], INK)
        beside = picture[:212, middle + 4 : middle + 40].max(-1) < 128
        rows = np.flatnonzero(beside.sum(1) % 36)  # no line from edge to edge
        assert 5 < len(rows) < 20
        gaps = whisker.min() - rows if mean > 0 else rows - whisker.max()
        assert gaps.min() > 2 and gaps.max() < 25


def test_many_arms_have_no_numbers():
    env = rljax.BernoulliBandit(num_arms=100)
    picture = env.render(BanditState(np.full(100, 0.5)))
    assert not len(places(picture[:100], INK)[0])  # above the bars


# What has no picture, or is no single state.


def test_a_time_limit_passes_on_to_what_it_wraps(key):
    inner = rljax.GridWorld()
    env = rljax.TimeLimit(rljax.TimeLimit(inner, 9), 5)
    state, _ = env.reset(key)
    np.testing.assert_array_equal(env.render(state, size=50), inner.render(0, size=50))
    with pytest.raises(TypeError, match="state must be a TimeLimitState, such as"):
        env.render(0)


class Plain(rljax.Env):
    observation_space = action_space = rljax.spaces.Discrete(2)
    reset = step = None


def test_without_a_render_there_is_no_picture(key):
    limited = rljax.TimeLimit(probes.Endless(), 3)
    for env, state, name in (
        (Plain(), 0, "Plain"),
        (limited, limited.reset(key)[0], "Endless"),
    ):
        message = rf"{name} has no picture: .* render\(state, \*, size=400\)"
        with pytest.raises(TypeError, match=message):
            env.render(state)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        None,
        "A.\n.G",
    ],
)
def test_what_a_user_s_render_returns_must_be_a_picture(picture, key):
    class Drawn(rljax.GridWorld):
        def render(self, state, *, size=400):
            return picture

    env = rljax.struct.dataclass(Drawn)()
    limited = rljax.TimeLimit(env, 3)
    with pytest.raises(TypeError, match=r"Drawn.render must return an array \[H, W, 3"):
        limited.render(limited.reset(key)[0])


ENVS = (
    rljax.CartPole(),
    rljax.Acrobot(),
    rljax.MountainCar(),
    rljax.MountainCarContinuous(),
    rljax.Pendulum(),
    rljax.GridWorld(),
    rljax.GaussianBandit(),
    rljax.envs.minatar.Breakout(),
    rljax.Catch(),
    rljax.DeepSea(),
)


@pytest.mark.parametrize("env", ENVS, ids=lambda env: type(env).__name__)
def test_a_traced_state_and_a_batch_are_refused(env, key):
    message = r"is traced, and a picture .* Call render outside of jit, vmap and scan"
    with pytest.raises(TypeError, match=f"state.*{message}"):
        jax.jit(lambda key: env.render(env.reset(key)[0]))(key)
    state, _ = env.reset(key)
    states = jax.tree.map(lambda x: np.stack([x] * 3), state)
    with pytest.raises(ValueError, match=r"state.* picture is of one .* shape \(3"):
        env.render(states)
    with pytest.raises(ValueError, match="size must be at least 16, got 3"):
        env.render(state, size=3)
    with pytest.raises(TypeError, match="size must be an integer, got 40.5"):
        env.render(state, size=40.5)


@pytest.mark.parametrize(
    ("env", "state", "message"),
    [
        (rljax.CartPole(), 3, "state must be a CartPoleState, such as env.reset"),
        (rljax.CartPole(), CartPoleState(np.nan, 0, 0, 0), "state.x must be finite"),
        (rljax.CartPole(), CartPoleState(0, 0, "x", 0), "state.theta must be real"),
        (
            rljax.CartPole(half_length=jnp.ones(2)),
            CartPoleState(0, 0, 0, 0),
            r"CartPole.half_length must be a scalar, .* has shape \(2,\)",
        ),
        (rljax.Catch(6, 4), CatchState(6, 0, 0), r"state.ball_row .* in \[0, 6\)"),
        (rljax.Catch(6, 4), CatchState(0, 4, 0), r"ball_column .* in \[0, 4\), got 4"),
        (rljax.Catch(6, 4), CatchState(0, 0, -1), r"paddle .* in \[0, 4\), got -1"),
        (rljax.DeepSea(4), DeepSeaState(5, 0), r"state.row .* in \[0, 5\), got 5"),
        (rljax.DeepSea(4), DeepSeaState(0, 4), r"state.column .* in \[0, 4\), got 4"),
        (rljax.GridWorld(), 25, r"state must be an integer in \[0, 25\), got 25"),
        (rljax.GridWorld(), -1, r"state must be an integer in \[0, 25\), got -1"),
        (rljax.GridWorld(), 1.5, r"state must be an integer in \[0, 25\), got 1.5"),
        (rljax.GridWorld(), None, "state must be real numbers, got None|finite"),
        (rljax.GaussianBandit(), 3, "state must be a BanditState"),
        (rljax.GaussianBandit(), BanditState(np.ones(3)), r"means must be \[5\] fin"),
    ],
)
def test_what_is_no_state_is_refused_by_name(env, state, message):
    with pytest.raises((TypeError, ValueError), match=message):
        env.render(state)


def test_a_text_is_of_one_cell_too():
    with pytest.raises(
        ValueError, match=r"state must be an integer in \[0, 25\), got -1"
    ):
        rljax.GridWorld().render_text(-1)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"pip install 'rljax-core\[plot\]'"):
        pole()
