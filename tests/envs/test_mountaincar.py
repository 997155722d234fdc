"""The mountain car against the book's equations and Gymnasium's car."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.envs import pictures
from rljax.envs.mountaincar import MountainCarState
from tests.oracles import mountaincar as oracle

ENV = rljax.MountainCar()


def stepped(position, velocity, action):
    """State, observation and flags after one step of each of many cars, in NumPy."""
    state = MountainCarState(*map(jnp.asarray, (position, velocity)))
    step = jax.jit(jax.vmap(ENV.step, in_axes=(0, 0, None)))
    out = step(state, jnp.asarray(action, jnp.int32), jax.random.key(0))
    return jax.tree.map(np.asarray, out)


def test_steps_are_the_books_and_gymnasiums(x64, record_property):
    rng, number = np.random.default_rng(0), 3000
    # Many of them reach the wall or the goal, and some are at the wall already.
    position = rng.uniform(-1.2, 0.5, number)
    position[:300], position[300:600] = -1.2, rng.uniform(0.43, 0.5, 300)
    velocity = rng.uniform(-0.07, 0.07, number)
    action = rng.integers(3, size=number)
    (x, v), time_step = stepped(position, velocity, action)
    assert x.dtype == np.float64
    cases = zip(position, velocity, action, strict=True)
    expected = np.array([oracle.step(x, v, int(a)) for x, v, a in cases])
    found = np.stack([x, v, time_step.reward, time_step.terminated], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(time_step.obs, found[:, :2])
    assert (x == -1.2).sum() > 50
    assert time_step.terminated.sum() > 50
    assert not time_step.truncated.any()

    car = gymnasium.make("MountainCar-v0").unwrapped
    for i in range(number):
        car.state = position[i], velocity[i]
        _, reward, terminated, _, _ = car.step(int(action[i]))
        assert (reward, terminated) == (time_step.reward[i], time_step.terminated[i])
        # Gymnasium lets the car go on past the goal.
        after = min(car.state[0], 0.5), car.state[1]
        np.testing.assert_allclose(after, time_step.obs[i], rtol=1e-12, atol=1e-15)


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
    np.testing.assert_allclose(space.high, [0.5, 0.07], rtol=1e-6)
    space = rljax.MountainCar(goal_position=np.array([0.5, 0.6])).observation_space
    np.testing.assert_allclose(space.high[:, 0], [0.5, 0.6], rtol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"max_speed": 0.0}, "MountainCar.max_speed must be finite and more than 0"),
        ({"min_position": -0.5}, "MountainCar.min_position must be"),
        ({"goal_position": -0.5}, "MountainCar.goal_position must be"),
        ({"force": np.inf}, "MountainCar.force must be finite"),
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
    # 400 pixels hold 1.7 of positions and a twentieth on either side.
    assert bottom == pytest.approx(20 + (1.2 - np.pi / 6) * 360 / 1.7, abs=2)
    assert left < bottom < right
    # The ground is sin 3x, a third of 200 pixels high; the car stands off its slope.
    assert low - high == pytest.approx(66 * (1 - np.sin(3.0)), abs=6)
