"""Mountain cars in lockstep with Gymnasium's, and against the book's equations."""

import contextlib
import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.envs import pictures
from rljax.envs.mountaincar import MountainCarState
from tests.conftest import enable_x64
from tests.oracles import mountaincar as oracle

ENV = rljax.MountainCar()
THROTTLED = rljax.MountainCarContinuous()


@jax.jit
def step(env, position, velocity, action):
    """State, observation and flags after one step of each of many cars."""
    state = MountainCarState(position, velocity)
    return jax.vmap(env.step, (0, 0, None))(state, action, jax.random.key(0))


def stepped(env, position, velocity, action):
    """[N, 4]: the state's two numbers, rewards and flags, of NumPy."""
    dtype = jnp.int32 if type(env) is rljax.MountainCar else float
    arrays = jnp.asarray(position, float), jnp.asarray(velocity, float)
    state, found = step(env, *arrays, jnp.asarray(action, dtype))
    assert not found.truncated.any()
    np.testing.assert_array_equal(found.obs, np.stack(state, 1))
    return np.column_stack([*state, found.reward, found.terminated])


def situations(env, number):
    """Positions, velocities and actions, many at the walls and about the goal."""
    rng = np.random.default_rng(0)
    position, velocity = rng.uniform([-1.2, -0.07], [0.6, 0.07], (number, 2)).T
    few = number // 10
    position[:few], position[few : 2 * few] = -1.2, rng.uniform(0.4, 0.6, few)
    velocity[2 * few : 3 * few] = rng.choice([-0.07, 0.07], few)
    if type(env) is rljax.MountainCar:
        action = rng.integers(3, size=number)
    else:
        action = rng.uniform(-1.5, 1.5, (number, 1)).astype(np.float32)
    rounded = (x.astype(np.float32).astype(float) for x in (position, velocity))
    return *rounded, action


def gymnasiums(env, position, velocity, action):
    """Gymnasium's own transitions, [N, 4]."""
    name = f"{type(env).__name__}-v0"
    made = gymnasium.make(name, goal_velocity=env.goal_velocity)
    car, rows = made.unwrapped, []
    for x, v, a in zip(position, velocity, action, strict=True):
        car.state = np.array([x, v])
        _, reward, terminated, truncated, _ = car.step(a.astype(float) if a.ndim else a)
        assert not truncated
        rows.append((*car.state, reward, terminated))
    return np.array(rows)


@pytest.mark.parametrize("env", [ENV, THROTTLED], ids=lambda env: type(env).__name__)
@pytest.mark.parametrize(
    "number", [1500, pytest.param(100_000, marks=pytest.mark.slow)]
)
def test_lockstep(env, number, record_property):
    """In float64, where it is the same arithmetic, and with many also in float32."""
    cases = situations(env, number)
    for goal_velocity in (0.0, 0.04):
        car = dataclasses.replace(env, goal_velocity=goal_velocity)
        expected = gymnasiums(car, *cases)
        for tolerance in (1e-14, 2e-7) if number > 10_000 else (1e-14,):
            with enable_x64() if tolerance < 1e-9 else contextlib.nullcontext():
                found = stepped(car, *cases)
            if env is THROTTLED:  # whose state Gymnasium rounds
                found[:, :2] = found[:, :2].astype(np.float32)
            error = np.abs(found - expected).max(0)
            record_property(
                "evidence",
                f"{type(env).__name__} against Gymnasium, {number:,} transitions, goal "
                f"velocity {goal_velocity:g}, within {tolerance:g}: largest error "
                f"{error[:2].max():.1e}",
            )
            assert error[:2].max() <= tolerance
            assert error[2] <= 100 * tolerance
            assert error[3] == 0
        for position in (-1.2, 0.6):
            assert (np.abs(found[:, 0] - position) < 1e-6).sum() > number // 100
        beyond, ended = found[:, 0] >= env.goal_position, found[:, 3] == 1
        assert (beyond & ended).sum() > number // 100
        assert (beyond & ~ended).sum() > number // 100


def test_the_book_s_car_stops_at_the_goal(x64):
    position, velocity, action = situations(ENV, 1500)
    inside = position < 0.5
    cases = position[inside], velocity[inside], action[inside]
    expected = [oracle.step(*x) for x in zip(*(c.tolist() for c in cases), strict=True)]
    found = stepped(rljax.MountainCar(max_position=0.5), *cases)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert found[:, 3].sum() > 20


def test_bad_throttles_are_refused(key):
    state = MountainCarState(jnp.float32(-0.5), jnp.float32(0))
    for action, error, message in (
        (
            np.int32([1]),
            TypeError,
            "Continuous's action must have a dtype of kind float",
        ),
        (1.0, ValueError, r"shape \(1,\) .* got \(\)"),
        ([1.5], ValueError, "must lie in Box"),
        ([-1.5], ValueError, "must lie in Box"),
    ):
        with pytest.raises(error, match=message):
            THROTTLED.step(state, action, key)


def test_an_engine_too_weak_gets_out_by_gathering_speed():
    def drive(policy):
        position, velocity = jnp.float32(-0.5), jnp.float32(0)
        state = MountainCarState(position, velocity)

        def step(state, _):
            return ENV.step(state, policy(state), jax.random.key(0))

        return jax.lax.scan(step, state, length=200)[1].terminated

    ends = jax.jit(lambda: [drive(lambda _: jnp.int32(2)), drive(along)])()
    assert not ends[0].any()
    assert 100 < np.argmax(ends[1]) < 130


def along(state):
    """Pushes the way that the car already goes."""
    return jnp.where(state.velocity < 0, 0, 2).astype(jnp.int32)


def test_resets_are_at_rest_near_the_bottom(key):
    _, obs = jax.vmap(ENV.reset)(jax.random.split(key, 10_000))
    position, velocity = np.asarray(obs).T
    assert (position >= -0.6).all()
    assert (position <= -0.4).all()
    np.testing.assert_allclose(position.mean(), -0.5, atol=2e-3)
    np.testing.assert_allclose(position.std(), 0.2 / 12**0.5, rtol=0.03)
    assert (velocity == 0).all()


def test_the_bounds_are_those_of_the_fields():
    space = rljax.make("MountainCar-v0").observation_space
    np.testing.assert_allclose(space.low, [-1.2, -0.07], rtol=1e-6)
    np.testing.assert_allclose(space.high, [0.6, 0.07], rtol=1e-6)
    space = rljax.MountainCar(max_position=np.array([0.5, 0.7])).observation_space
    np.testing.assert_allclose(space.high[:, 0], [0.5, 0.7], rtol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"max_speed": 0.0}, "MountainCar.max_speed must be finite and more than 0"),
        ({"min_position": -0.5}, "MountainCar.min_position must be"),
        ({"goal_position": -0.5}, "MountainCar.goal_position must be"),
        ({"force": np.inf}, "MountainCar.force must be finite"),
        ({"max_position": np.nan}, "MountainCar.max_position must be finite"),
        ({"goal_velocity": np.nan}, "MountainCar.goal_velocity must be finite"),
        (
            {"goal_position": np.array([0.5, 0.7])},
            r"MountainCar.max_position must be at least goal_position = \[0.5 0.7\]",
        ),
    ],
)
def test_impossible_physics_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        rljax.MountainCar(**kwargs)


def test_the_car_is_drawn_where_it_is():
    blue = tuple(bytes.fromhex(pictures.AGENT.removeprefix("#")))

    def middle(position):
        picture = ENV.render(MountainCarState(position, 0.0))
        rows, columns = np.nonzero((picture == blue).all(-1))
        assert len(rows) > 50
        return rows.mean(), columns.mean()

    (high, left), (low, bottom), (_, right) = map(middle, (-1.0, -np.pi / 6, 0.3))
    # 400 pixels hold 1.8 of positions and a twentieth on either side.
    assert bottom == pytest.approx(20 + (1.2 - np.pi / 6) * 360 / 1.8, abs=2)
    assert left < bottom < right
    # The ground is sin 3x, a third of 200 pixels high; the car stands off its slope.
    assert low - high == pytest.approx(66 * (1 - np.sin(3.0)), abs=6)


@pytest.mark.parametrize("env", [ENV, THROTTLED], ids=lambda env: type(env).__name__)
def test_the_flag_stands_at_the_goal(env):
    gold = tuple(bytes.fromhex(pictures.GOLD.removeprefix("#")))
    picture = env.render(MountainCarState(-0.5, 0.0))
    _, columns = np.nonzero((picture == gold).all(-1))
    assert columns.min() == pytest.approx(20 + (1.2 + env.goal_position) * 200, abs=2)
