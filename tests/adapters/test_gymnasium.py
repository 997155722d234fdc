"""Our environments as Gymnasium's: against its own checker and vector environment."""

from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rljax
from rljax import spaces, struct
from rljax.adapters import gymnasium_envs, to_gymnasium, to_gymnasium_vector
from rljax.adapters.gymnasium_spaces import from_gymnasium_space, to_gymnasium_space
from tests import probes


class WalkState(NamedTuple):
    time: jax.Array
    place: jax.Array


@struct.dataclass
class Walk(rljax.Env):
    """Terminates beyond ±2; noise in both functions, every kind of space."""

    @property
    def observation_space(self):
        parts = spaces.Discrete(9), spaces.MultiDiscrete((9, 2))
        return {"place": spaces.Box(-9.0, 9.0, (2,)), "count": parts}

    @property
    def action_space(self):
        return spaces.Box(-1.0, np.array([1.0, 2.0]), (2,))

    def reset(self, key):
        place = jax.random.uniform(key, (2,))
        return WalkState(jnp.int32(0), place), self._seen(jnp.int32(0), place)

    def _seen(self, time, place):
        return {"place": place, "count": (time, jnp.stack([time, time % 2]))}

    def step(self, state, action, key):
        place = state.place + action + 0.1 * jax.random.normal(key, (2,))
        state = WalkState(state.time + 1, place)
        return state, rljax.TimeStep(
            self._seen(*state),
            place.sum(),
            jnp.abs(place).max() > 2,
            jnp.array(False),
        )

    def render(self, state, *, size=400):
        picture = np.zeros((8, 8, 3), np.uint8)
        picture[..., 0] = int(state.time)
        return picture


def walk():
    return rljax.TimeLimit(Walk(), 4)


@pytest.fixture(scope="module")
def env():
    return to_gymnasium(walk(), render_mode="rgb_array")


def test_gymnasiums_checker_finds_nothing(env):
    """Of warnings it has one, on the action space, whose bounds are not symmetric."""
    with pytest.warns(UserWarning, match="symmetric and normalized") as found:
        check_env(env)
    assert len(found) == 1


def test_a_seed_fixes_everything_and_randomness_goes_on_without_one(env):
    def play(seed):
        seen = [env.reset(seed=seed)[0]["place"]]
        for _ in range(2):
            seen.append(env.step(np.zeros(2))[0]["place"])
            seen.append(env.reset()[0]["place"])
        return np.stack(seen)

    first, again, other = play(7), play(7), play(8)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(np.concatenate([first, other])[:, 0])) == 10


def test_a_step_is_the_environments_own(env):
    """The noise is small, so that what it leaves of each number shows."""
    obs, info = env.reset(seed=1)
    assert info == {}
    places, rewards, flags = [obs["place"]], [], []
    while not (flags and any(flags[-1])):
        obs, reward, terminated, truncated, info = env.step(np.array([0.0, 0.01]))
        assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        places.append(obs["place"])
        rewards.append(reward)
        flags.append((terminated, truncated))
        assert obs["count"][0] == len(flags)
        assert env.render()[0, 0, 0] == len(flags)
    assert flags == [(False, False)] * 3 + [(False, True)]
    np.testing.assert_allclose(rewards, np.sum(places[1:], axis=1), rtol=1e-6)
    assert (np.abs(np.diff(places, axis=0) - [0, 0.01]) < 0.5).all()
    env.reset()
    assert env.step(np.array([0.0, 2.0]))[2] or env.step(np.array([0.0, 2.0]))[2]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_many_are_what_gymnasiums_own_vector_environment_makes_of_single_ones(mode):
    """Over all modes of ending, with Gymnasium's layout of infos."""
    ours = to_gymnasium_vector(walk(), 3, autoreset_mode=mode)
    theirs = gymnasium.vector.SyncVectorEnv(
        [lambda: to_gymnasium(walk())] * 3, autoreset_mode=mode
    )
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    for name in ("observation_space", "action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    rng = np.random.default_rng(0)
    seen = ours.reset(seed=5), theirs.reset(seed=5)
    ends = np.zeros(2, int)
    for t in range(25):
        assert_alike(*seen)
        if t == 20:
            seen = ours.reset(seed=[3, 4, 9]), theirs.reset(seed=[3, 4, 9])
            assert_alike(*seen)
        actions = rng.uniform([-1, -1], [1, 2], (3, 2)).astype(np.float32)
        seen = ours.step(actions), theirs.step(actions)
        ends += [flags.sum() for flags in seen[0][2:4]]
    assert (ends > 2).all()


def assert_alike(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if x.dtype == object:  # the last observations
            assert_alike(list(x), list(y))
        else:
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_many_without_a_seed_are_different_and_go_on():
    envs = to_gymnasium_vector(walk(), 3, render_mode="rgb_array")
    places = [envs.reset()[0]["place"] for _ in range(2)]
    assert len(np.unique(np.concatenate(places)[:, 0])) == 6
    envs.step(np.zeros((3, 2)))
    assert [picture[0, 0, 0] for picture in envs.render()] == [1, 1, 1]


def test_spaces_go_there_and_back():
    space = {
        "a": spaces.Box(-1.0, np.array([1.0, np.inf]), (2,)),
        "b": (spaces.Discrete(3), spaces.MultiDiscrete((2, 3))),
        "c": spaces.Box(0, 255, (2, 2), jnp.uint8),
    }
    theirs = to_gymnasium_space(space)
    assert theirs["b"][0] == gymnasium.spaces.Discrete(3)
    assert theirs["b"][1] == gymnasium.spaces.MultiDiscrete([2, 3])
    assert theirs["c"].dtype == np.uint8
    np.testing.assert_array_equal(theirs["a"].low, [-1, -1])
    np.testing.assert_array_equal(theirs["a"].high, [1, np.inf])
    again = from_gymnasium_space(theirs)
    assert to_gymnasium_space(again) == theirs
    assert [type(part) for part in again["b"]] == [type(part) for part in space["b"]]
    assert from_gymnasium_space(gymnasium.spaces.MultiBinary(3)).high == 1
    assert from_gymnasium_space(gymnasium.spaces.Box(0, 1, dtype=float)).dtype == "f4"
    for unknown in (gymnasium.spaces.Text(3), "space"):
        with pytest.raises(TypeError, match="knows no space like"):
            from_gymnasium_space(unknown)
    with pytest.raises(TypeError, match="Gymnasium has no space for"):
        to_gymnasium_space("space")
    with pytest.raises(ValueError, match="Discrete space must start at 0.*Transform"):
        from_gymnasium_space(gymnasium.spaces.Discrete(3, start=1))
    with pytest.raises(ValueError, match="(?s)must have one axis.*Flatten"):
        from_gymnasium_space(gymnasium.spaces.MultiDiscrete([[2, 3], [2, 3]]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: to_gymnasium("CartPole-v1"), TypeError, "env must be an environment"),
        (lambda: to_gymnasium(walk(), render_mode="human"), ValueError, "'rgb_array'"),
        (
            lambda: to_gymnasium(
                rljax.FrameStack(rljax.TimeLimit(probes.OneStep(), 3)),
                render_mode="rgb_array",
            ),
            ValueError,
            r"None or one of \[\], got 'rgb_array'",
        ),
        (
            lambda: to_gymnasium(walk()).render(),
            ValueError,
            "is None: to render, pass render_mode='rgb_array' to to_gymnasium",
        ),
        (
            lambda: to_gymnasium(walk(), render_mode="rgb_array").render(),
            gymnasium.error.ResetNeeded,
            "reset must be called before render",
        ),
        (
            lambda: to_gymnasium_vector(walk(), 2, render_mode="rgb_array").render(),
            gymnasium.error.ResetNeeded,
            "reset must be called before render",
        ),
        (
            lambda: to_gymnasium_vector(walk(), 2).render(),
            ValueError,
            "to to_gymnasium_vector",
        ),
        (
            lambda: to_gymnasium(walk()).step([0.0, 0.0]),
            gymnasium.error.ResetNeeded,
            "reset must be called",
        ),
        (lambda: to_gymnasium_vector(walk(), 0), ValueError, "num_envs must be at"),
        (
            lambda: to_gymnasium_vector(walk(), 2, autoreset_mode="Disabled"),
            ValueError,
            "must be 'NextStep' or 'SameStep', got 'Disabled'",
        ),
        (
            lambda: to_gymnasium_vector(walk(), 2).reset(seed=[1]),
            ValueError,
            "seed must hold 2 seeds, got 1",
        ),
        (
            lambda: to_gymnasium_vector(walk(), 2).step([0.0, 0.0]),
            gymnasium.error.ResetNeeded,
            "reset must be called",
        ),
    ],
)
def test_bad_calls_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (spaces.Discrete(2), [0, 1, np.uint8(1)], [0.0, 0.7, 2, -1, 2**32, [0]]),
        (spaces.MultiDiscrete((2, 3)), [[1, 2]], [[2, 0], [1.0, 0.5], [0, -1], [0], 0]),
        (spaces.Box(-4, 4, (1,), jnp.int8), [[4], [-4]], [[5], [0.5], [256], [-5]]),
        (
            spaces.Box(-1.0, np.array([0.1, 2.0]), (2,)),
            # The float32 of 0.1 is above that of double precision.
            [[0.1, 2], np.array([np.float32(0.1), 0.0], float)],
            [[0.11, 0.0], [0.0, 2.1], [-1.1, 0.0], [np.nan, 0.0], [0.0], 0.0],
        ),
    ],
)
def test_actions_are_looked_at_before_they_are_cast(space, good, bad):
    """By one rule, for one environment and for many."""
    theirs = to_gymnasium_space(space)
    for batch in (theirs, gymnasium.vector.utils.batch_space(theirs, 2)):
        number = () if batch is theirs else (2,)
        for value in good:
            array = np.broadcast_to(value, number + np.shape(value))
            action = gymnasium_envs._action(array, from_gymnasium_space(theirs), batch)
            assert action.dtype == jnp.result_type(space.dtype)
            np.testing.assert_allclose(action, array)
        for value in bad:
            array = np.broadcast_to(value, number + np.shape(value))
            with pytest.raises(ValueError, match="action must lie in"):
                gymnasium_envs._action(array, from_gymnasium_space(theirs), batch)


def test_bad_actions_are_refused(env):
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must lie in Box.*ClipAction"):
        env.step([0.0, 2.1])
    envs = to_gymnasium_vector(walk(), 3)
    envs.reset(seed=0)
    for actions in (np.zeros(2), np.full((3, 2), [0.0, 2.1])):
        with pytest.raises(ValueError, match=r"(?s)must lie in Box.*\(3, 2\)"):
            envs.step(actions)
