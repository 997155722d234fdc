"""The acrobot in lockstep with Gymnasium, and against the energy of its two links."""

import contextlib
import dataclasses
import math

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.envs import acrobot, pictures
from rljax.envs.acrobot import AcrobotState
from tests.conftest import enable_x64

LIMITS = np.array([math.pi, math.pi, 4 * math.pi, 9 * math.pi])
# Gymnasium's constants by the names of ours; it has no others that could differ.
THEIRS = {
    "mass_1": "LINK_MASS_1",
    "mass_2": "LINK_MASS_2",
    "length_1": "LINK_LENGTH_1",
    "center_1": "LINK_COM_POS_1",
    "center_2": "LINK_COM_POS_2",
    "inertia_1": "LINK_MOI",
    "max_speed_1": "MAX_VEL_1",
    "max_speed_2": "MAX_VEL_2",
    "time_step": "dt",
    "torques": "AVAIL_TORQUE",
}


def gymnasiums():
    return gymnasium.make("Acrobot-v1", disable_env_checker=True).unwrapped


def experience(number, **constants):
    """Gymnasium's own transitions, from everywhere: states, actions, what follows.

    The constants, by our names, have one row for each transition.
    """
    rng, env = np.random.default_rng(0), gymnasiums()
    states = rng.uniform(-LIMITS, LIMITS, (number, 4))
    states[::2, 2:] /= 5  # as fast as one gets
    states = states.astype(np.float32).astype(float)
    actions, rows = rng.integers(3, size=number), []
    for i in range(number):
        for name, values in constants.items():
            setattr(env, THEIRS[name], values[i])
        env.state = states[i]
        obs, reward, terminated, truncated, _ = env.step(int(actions[i]))
        assert not truncated
        rows.append((*env.state, reward, terminated, *obs))
    return states, actions, np.array(rows)


def inputs(states, actions):
    state = AcrobotState(*jnp.asarray(states, float).T)
    return state, jnp.asarray(actions, jnp.int32)


def as_rows(state, found):
    """States, rewards, flags and observations after steps, as `experience` has them."""
    assert not found.truncated.any()
    return np.column_stack([*state, found.reward, found.terminated, found.obs])


def distance(found, expected):
    """Between states, [N, 4]; two angles may be a turn apart."""
    apart = np.abs(found[:, :4] - expected[:, :4])
    apart[:, :2] = np.minimum(apart[:, :2], 2 * math.pi - apart[:, :2])
    return apart


def test_each_speed_may_be_an_array_of_settings():
    for name, place in (("max_speed_1", 4), ("max_speed_2", 5)):
        space = rljax.Acrobot(**{name: np.array([1.0, 2.0, 3.0])}).observation_space
        np.testing.assert_array_equal(space.high[:, place], [1, 2, 3])
        np.testing.assert_array_equal(space.low, -space.high)
        assert space.high.shape == (3, 6)
        assert (space.high[:, :4] == 1).all()
        assert space.high.dtype == np.float32


@pytest.mark.slow
def test_lockstep(record_property):
    """In float32, and in float64, where it is the same arithmetic."""
    number, env = 100_000, rljax.make("Acrobot-v1", max_steps=None)
    states, actions, expected = experience(number)
    assert 0.1 < expected[:, 5].mean() < 0.3
    height = -np.cos(expected[:, 0]) - np.cos(expected[:, 0] + expected[:, 1])
    # A step at the largest speeds makes errors ten thousand times as large.
    for fast, slow in ((0.03, 5e-6), (5e-11, 1e-14)):
        with enable_x64() if fast < 1e-6 else contextlib.nullcontext():
            step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, None)))
            found = as_rows(*step(*inputs(states, actions), jax.random.key(0)))
        apart = distance(found, expected)
        record_property(
            "evidence",
            f"Acrobot against Gymnasium, {number:,} transitions, within {fast:g}: "
            f"largest error {apart.max():.1e}, {apart[::2].max():.1e} at a fifth of "
            "the speeds",
        )
        assert apart.max() < fast
        assert apart[::2].max() < slow
        # So near to the goal's height, float32 may be on the other side.
        clear = np.abs(height - 1) > 2 * fast
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(found[clear, 4:6], expected[clear, 4:6])
        # Gymnasium rounds its observations to float32.
        np.testing.assert_allclose(found[:, 6:], expected[:, 6:], atol=1e-5 + fast)
        assert (np.abs(found[:, :4]) <= LIMITS.astype(np.float32)).all()


@pytest.mark.slow
def test_the_papers_equations_are_gymnasiums(x64):
    states = np.random.default_rng(3).uniform(-2.0, 2.0, (4, 50))
    env, theirs = rljax.Acrobot(dynamics="nips"), gymnasiums()
    state = AcrobotState(*jnp.asarray(states))
    found = acrobot.accelerations(env, state, jnp.full(50, 0.5))
    theirs.book_or_nips = "nips"
    expected = [theirs._dsdt(np.append(x, 0.5))[2:4] for x in states.T]
    np.testing.assert_allclose(np.stack(found, 1), expected, rtol=1e-9)


def test_steps_are_gymnasiums_whatever_the_links(x64):
    """Every field is a leaf to be vmapped over; the first half has the defaults."""
    rng, number, default = np.random.default_rng(1), 1000, rljax.Acrobot()
    others = np.arange(number) >= number // 2
    names = [name for name in THEIRS if name != "torques"]
    fields = {
        name: getattr(default, name)
        * np.where(others, rng.uniform(0.5, 1.5, number), 1)
        for name in (*names, "length_2", "goal_height", "max_torque")
    }
    half_width, noise = 2.0 * others, rng.uniform(-1, 1, number)
    torques = np.outer(fields["max_torque"], [-1, 0, 1])
    torques += (half_width * noise)[:, None]
    constants = {name: fields[name] for name in names} | {"torques": torques}
    states, actions, expected = experience(number, **constants)

    @jax.jit
    @jax.vmap
    def step(env, noise, state, action):
        return env.advance(state, action, noise)

    # One inertia is all that Gymnasium has, and one gravity.
    fields |= {"inertia_2": fields["inertia_1"], "gravity": np.full(number, 9.8)}
    env = rljax.Acrobot(**fields, torque_noise=half_width)
    found = as_rows(*step(env, jnp.asarray(noise), *inputs(states, actions)))
    assert distance(found, expected).max() < 1e-9
    assert distance(found, expected)[: number // 2 : 2].max() < 1e-14
    np.testing.assert_allclose(found[:, 6:], expected[:, 6:], atol=1e-6)
    for i, name in ((2, "max_speed_1"), (3, "max_speed_2")):
        assert (np.abs(expected[:, i]) == fields[name]).sum() > number // 100
    # Gymnasium takes links for 1 m long, and the goal for 1 m high.
    height = -fields["length_1"] * np.cos(expected[:, 0])
    height -= fields["length_2"] * np.cos(expected[:, 0] + expected[:, 1])
    above = height > fields["goal_height"]
    assert 0.1 < above.mean() < 0.3
    np.testing.assert_array_equal(above[~others], expected[~others, 5])
    np.testing.assert_array_equal(found[:, 5], above)
    np.testing.assert_array_equal(found[:, 4], np.where(above, 0, -1))
    np.testing.assert_array_equal(found[~others, 4], expected[~others, 4])


def energy(env, theta_1, theta_2, speed_1, speed_2):
    """Of two rods in free fall about a pivot, J."""
    speed = speed_1 + speed_2
    kinetic = (env.mass_1 * env.center_1**2 + env.inertia_1) * speed_1**2
    kinetic += env.inertia_2 * speed**2
    along, across = env.length_1 * speed_1, env.center_2 * speed
    squared = along**2 + across**2 + 2 * along * across * np.cos(theta_2)
    kinetic += env.mass_2 * squared
    height = -env.mass_1 * env.center_1 * np.cos(theta_1)
    height -= env.mass_2 * env.length_1 * np.cos(theta_1)
    height -= env.mass_2 * env.center_2 * np.cos(theta_1 + theta_2)
    return kinetic / 2 + env.gravity * height


def test_the_motors_power_is_what_the_energy_gains(x64):
    """Also with two moments of inertia and another gravity, which Gymnasium has not."""
    rng = np.random.default_rng(2)
    names = ("mass_1", "mass_2", "length_1", "center_1", "center_2")
    names += ("inertia_1", "inertia_2", "gravity")
    env = rljax.Acrobot(**{name: rng.uniform(0.5, 2.0) for name in names})
    states, torque = rng.uniform(-2.0, 2.0, (4, 500)), rng.uniform(-5.0, 5.0, 500)
    # The paper's equations lack a term, which is added here.
    lacking = env.mass_2 * env.length_1 * env.center_2
    lacking *= states[2] ** 2 * np.sin(states[1])

    @jax.jit
    def accelerations(state, torque, lacking):
        nips = dataclasses.replace(env, dynamics="nips")
        book = acrobot.accelerations(env, state, torque)
        return book, acrobot.accelerations(nips, state, torque - lacking)

    arrays = (AcrobotState(*states), torque, lacking)
    book, nips = accelerations(*jax.tree.map(jnp.asarray, arrays))
    slopes, time = np.stack([*states[2:], *book]), 1e-5
    after, before = (energy(env, *(states + s * time * slopes)) for s in (1, -1))
    power = (after - before) / (2 * time)
    np.testing.assert_allclose(power, torque * states[3], atol=1e-6)
    np.testing.assert_allclose(nips, book, rtol=1e-9)


def test_torque_noise_is_drawn_where_there_is_any(key):
    noise = np.asarray(rljax.Acrobot(torque_noise=2.0).draw((10_000,), key))
    assert (np.abs(noise) <= 1).all()
    np.testing.assert_allclose(noise.mean(), 0, atol=0.03)
    np.testing.assert_allclose(noise.std(), 3**-0.5, rtol=0.03)
    assert rljax.Acrobot().draw((3,), key) == ()


def test_resets_hang_almost_still(key):
    reset = jax.jit(jax.vmap(rljax.Acrobot().reset))
    state, obs = jax.tree.map(np.asarray, reset(jax.random.split(key, 5000)))
    for x in state:
        assert (np.abs(x) <= 0.1).all()
        np.testing.assert_allclose(x.mean(), 0, atol=3e-3)
        np.testing.assert_allclose(x.std(), 0.1 / 3**0.5, rtol=0.04)
    angles = [f(x) for x in state[:2] for f in (np.cos, np.sin)]
    np.testing.assert_allclose(obs, np.stack([*angles, *state[2:]], 1), atol=1e-6)


def test_the_bounds_are_those_of_the_fields():
    speeds = np.array([3.0, 4.0])
    space = rljax.Acrobot(max_speed_1=speeds, max_speed_2=2 * speeds).observation_space
    np.testing.assert_array_equal(space.high, [[1, 1, 1, 1, 3, 6], [1, 1, 1, 1, 4, 8]])
    np.testing.assert_array_equal(space.low, -space.high)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mass_2": 0.0}, "Acrobot.mass_2 must be finite and more than 0"),
        ({"inertia_1": -1.0}, "Acrobot.inertia_1 must be finite and at least 0"),
        ({"torque_noise": -1.0}, "Acrobot.torque_noise must be finite and at least 0"),
        ({"goal_height": np.nan}, "Acrobot.goal_height must be finite"),
        ({"dynamics": "paper"}, "Acrobot.dynamics must be one of 'book', 'nips', got"),
    ],
)
def test_impossible_physics_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        rljax.Acrobot(**kwargs)


def places(picture, color):
    """Columns to the right and rows above the middle of the pixels of a colour."""
    rgb = tuple(bytes.fromhex(color.removeprefix("#")))
    rows, columns = np.nonzero((picture == rgb).all(-1))
    return columns - 99.5, 99.5 - rows


@pytest.mark.parametrize(("theta_1", "theta_2"), [(0.5, 1.0), (2.0, -2.5), (-1.0, 0.4)])
def test_links_point_where_their_angles_say(theta_1, theta_2):
    state = AcrobotState(theta_1, theta_2, 0.0, 0.0)
    env = rljax.Acrobot(length_2=2.0, goal_height=1.5)
    picture = env.render(state, size=200)
    # From the pivot to the edge of what is in reach there are 86 pixels, here 3 m.
    joint = np.array([math.sin(theta_1), -math.cos(theta_1)]) * 86 / 3
    both = theta_1 + theta_2
    end = joint + 2 * np.array([math.sin(both), -math.cos(both)]) * 86 / 3
    right, up = places(picture, pictures.AGENT)
    far = np.hypot(right - joint[0], up - joint[1])
    assert far.max() == pytest.approx(2 * 86 / 3 + 4.8, abs=1.5)
    tip = far > far.max() - 4
    np.testing.assert_allclose([right[tip].mean(), up[tip].mean()], end, atol=4)
    first = np.mean(places(picture, pictures._POLE), 1)
    assert np.dot(first, joint) > 0.9 * np.linalg.norm(first) * np.linalg.norm(joint)
    right, up = places(picture, pictures.GOLD)
    assert np.median(up) == pytest.approx(1.5 * 86 / 3, abs=1)
    assert np.ptp(right) == 199
