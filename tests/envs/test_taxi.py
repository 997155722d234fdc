"""The taxi against Gymnasium's: every transition, and the model."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.toy_text.taxi import TaxiEnv

import rljax
from rljax import random
from rljax.envs import pictures

STATES, ACTIONS = (x.astype(np.int32).ravel() for x in np.indices((500, 6)))
PLAYED = np.flatnonzero(np.arange(500) // 4 % 5 != np.arange(500) % 4)
"""The states whose passenger is not at the destination."""
RAIN = rljax.Taxi(slip=0.2)


@pytest.fixture(scope="module")
def table():
    return TaxiEnv()


@pytest.fixture(scope="module")
def found():
    """Steps of all states and actions, dry and with three draws of rain; models."""

    def everything(dry, wet, noise):
        over_all = jax.vmap(wet.advance, (0, 0, None))
        return {
            "dry": jax.vmap(dry.advance, (0, 0, None))(STATES, ACTIONS, ()),
            "wet": jax.vmap(over_all, (None, None, 0))(STATES, ACTIONS, noise),
            "models": (dry.to_mdp(), dry.to_mdp(sparse=True)),
            "wet model": wet.to_mdp(sparse=True),
        }

    noise = jnp.array([0.09, 0.15, 0.21])  # the one side, the other, and straight on
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return jax.jit(everything)(rljax.Taxi(), RAIN, noise)


def test_every_step_is_gymnasium_s(table, found):
    after, time_step = found["dry"]
    pairs = zip(STATES.tolist(), ACTIONS.tolist(), strict=True)
    rows = [table.P[state][action] for state, action in pairs]
    assert {len(row) for row in rows} == {1}
    _, wanted, reward, terminated = np.array([row[0] for row in rows]).T
    np.testing.assert_array_equal(after, wanted)
    np.testing.assert_array_equal(time_step.obs, wanted)
    np.testing.assert_array_equal(time_step.reward, reward)
    np.testing.assert_array_equal(time_step.terminated, terminated)
    assert not time_step.truncated.any()


def test_the_model_is_that_of_the_steps(table, found):
    after, time_step = found["dry"]
    dense, sparse = found["models"]
    next_states = np.reshape(after, (500, 6))
    np.testing.assert_array_equal(
        sparse.transitions.next_states[PLAYED, :, 0], next_states[PLAYED]
    )
    np.testing.assert_array_equal(sparse.transitions.dense(500), dense.transitions)
    for model in (dense, sparse):
        rewards = np.reshape(time_step.reward, (500, 6))
        np.testing.assert_array_equal(model.rewards[PLAYED], rewards[PLAYED])
        np.testing.assert_array_equal(np.flatnonzero(~model.terminal), PLAYED)
        np.testing.assert_allclose(model.initial, table.initial_state_distrib, 1e-6)


def test_rain_drives_to_a_side(found):
    """As Gymnasium's model of rain says, of the versions that have it right."""
    after = np.asarray(found["wet"][0]).reshape(3, 500, 6)
    dry = np.asarray(found["dry"][0]).reshape(500, 6)
    np.testing.assert_array_equal(after[2], dry)
    np.testing.assert_array_equal(after[:2, :, 4:], dry[None, :, 4:].repeat(2, 0))
    moved = dry != np.arange(500)[:, None]
    for action, sides in enumerate([(2, 3), (2, 3), (0, 1), (0, 1)]):
        for slipped, side in zip(after[1::-1], sides, strict=True):
            wanted = np.where(moved[:, action], dry[:, side], dry[:, action])
            np.testing.assert_array_equal(slipped[:, action], wanted)
    model = found["wet model"]
    listed, chances = model.transitions.next_states, model.transitions.probabilities
    np.testing.assert_allclose(chances[7, 3], [0.8, 0.1, 0.1], rtol=1e-6)
    order = after[[2, 1, 0]].transpose(1, 2, 0)
    np.testing.assert_array_equal(listed[PLAYED], order[PLAYED])


@pytest.mark.slow
def test_rain_is_gymnasium_s(found):
    if tuple(map(int, gymnasium.__version__.split(".")[:2])) < (1, 3):
        pytest.skip("its rain was wrong before 1.3")
    rows, dense = TaxiEnv(is_rainy=True).P, found["wet model"].transitions.dense(500)
    for state in PLAYED.tolist():
        for action, row in rows[state].items():
            wanted = np.zeros(500)
            for probability, next_state, _, _ in row:
                wanted[next_state] += probability
            np.testing.assert_allclose(dense[state, action], wanted, atol=1e-6)


def test_the_best_return_is_the_known_one(found):
    """7.93 on average: a delivery pays 20, and each step before it costs 1."""
    _, model = found["models"]
    next_states = np.asarray(model.transitions.next_states)[..., 0]
    values = np.zeros(500)
    for _ in range(20):
        best = np.max(model.rewards + values[next_states], 1)
        values = np.where(model.terminal, 0, best)
    initial = np.asarray(model.initial, float)
    assert initial @ values == pytest.approx(7.93, abs=1e-5)


def test_episodes_begin_in_all_300_states_alike(table, monkeypatch):
    monkeypatch.setattr(random, "below", lambda drawn, number: drawn % number)
    state, obs = jax.jit(jax.vmap(rljax.Taxi().reset))(jnp.arange(600))
    np.testing.assert_array_equal(state, obs)
    wanted = 600 * table.initial_state_distrib
    np.testing.assert_allclose(np.bincount(state, minlength=500), wanted)


def test_a_picture_shows_taxi_passenger_and_destination():
    def middle(state, name):
        color = tuple(bytes.fromhex(name.removeprefix("#")))
        picture = rljax.Taxi().render(jnp.int32(state), size=100)
        rows, columns = np.nonzero((picture == color).all(-1))
        return np.array([rows.mean(), columns.mean()]) / 20

    def state(row, column, passenger, destination):
        return ((row * 5 + column) * 5 + passenger) * 4 + destination

    for row, column in ((0, 0), (2, 4), (4, 1)):
        where = middle(state(row, column, 0, 3), pictures.AGENT)
        np.testing.assert_allclose(where, [row + 0.5, column + 0.5], atol=0.1)
    for stand, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 3)]):
        where = middle(state(2, 2, 4, stand), pictures.GOLD)
        np.testing.assert_allclose(where, [row + 0.5, column + 0.5], atol=0.1)
    # A passenger adds to what is dark, there or in the taxi; the walls have the rest.
    pictures_of = [
        rljax.Taxi().render(state(2, 2, who, (who + 1) % 4), size=100).astype(int)
        for who in range(5)
    ]
    dark = [(p.max(-1) < 80).reshape(5, 20, 5, 20).sum((1, 3)) for p in pictures_of]
    for who, cell in enumerate([(0, 0), (0, 4), (4, 0), (4, 3), (2, 2)]):
        others = [dark[i][cell] for i in range(5) if i != who]
        assert dark[who][cell] > max(others) + 5
    with pytest.raises(ValueError, match=r"must be an integer in \[0, 500\), got 500"):
        rljax.Taxi().render(500)
    with pytest.raises(TypeError, match="state is traced, and a picture"):
        jax.jit(rljax.Taxi().render)(0)
    with pytest.raises(ValueError, match="size must be at least 16, got 3"):
        rljax.Taxi().render(0, size=3)


def test_the_named_one_has_200_steps(table):
    env = rljax.make("Taxi-v3")
    assert env.max_steps == 200
    assert env.env == rljax.Taxi()
    assert (env.observation_space.n, env.action_space.n) == (500, 6)
    with pytest.raises(ValueError, match=r"Taxi.slip must be in \[0, 1\], got 2"):
        rljax.Taxi(slip=2)
    with pytest.raises(ValueError, match="Taxi.delivery_reward must be finite"):
        rljax.Taxi(delivery_reward=np.inf)


@pytest.mark.slow
def test_q_learning_learns_the_way(record_property):
    agent = rljax.QLearning(
        exploration=rljax.exploration.EpsilonGreedy(0.1),
        step_size=0.5,
        discount=0.99,
        rollout_length=10_000,
    )
    env = rljax.make("Taxi-v3")
    state, _ = rljax.train(agent, env, jax.random.key(0), num_updates=40)
    found = rljax.evaluate(
        agent, state.agent_state, env, jax.random.key(1), num_episodes=1000
    )
    mean = float(found.episode_returns.mean())
    record_property("evidence", f"Q-learning on Taxi-v3, 400,000 steps: {mean:.2f}")
    assert mean > 7.6
