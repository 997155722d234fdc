"""The gambler's problem: its steps, its model, and bold play."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import planning, random

CAPITAL, ACTION = (x.ravel() for x in np.indices((99, 50)))
CAPITAL = CAPITAL + 1
STAKE = np.minimum(ACTION + 1, np.minimum(CAPITAL, 100 - CAPITAL))


@pytest.fixture(scope="module")
def game():
    return rljax.make("Gambler-100")


@pytest.fixture(scope="module")
def models(game):
    def both(game):
        return game.to_mdp(), game.to_mdp(sparse=True)

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return jax.jit(both)(game)


def test_every_toss_moves_the_stake(game):
    capital, action = (jnp.asarray(x, jnp.int32) for x in (CAPITAL, ACTION))
    step = jax.jit(jax.vmap(game.advance, (0, 0, None)))
    for noise, after in ((0.3999, CAPITAL + STAKE), (0.4, CAPITAL - STAKE)):
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            state, time_step = step(capital, action, jnp.float32(noise))
        np.testing.assert_array_equal(state, after)
        np.testing.assert_array_equal(time_step.obs, after)
        np.testing.assert_array_equal(time_step.reward, after == 100)
        np.testing.assert_array_equal(time_step.terminated, after % 100 == 0)
        assert not time_step.truncated.any()
    assert (game.observation_space.n, game.action_space.n) == (101, 50)
    assert rljax.Gambler(goal=5).action_space.n == 2
    assert type(rljax.Gambler(goal=np.int64(5)).goal) is int


def test_the_model_is_that_of_the_steps(models):
    dense, sparse = models
    wanted = np.zeros((99, 50, 101))
    rows = np.arange(len(CAPITAL))
    flat = wanted.reshape(-1, 101)
    flat[rows, CAPITAL + STAKE], flat[rows, CAPITAL - STAKE] = 0.4, 0.6
    np.testing.assert_allclose(dense.transitions[1:100], wanted, rtol=1e-6)
    listed = sparse.transitions.dense(101)
    np.testing.assert_array_equal(listed, dense.transitions)
    for model in models:
        wins = np.where(CAPITAL + STAKE == 100, 0.4, 0.0).reshape(99, 50)
        np.testing.assert_allclose(model.rewards[1:100], wins, rtol=1e-6)
        assert np.flatnonzero(model.terminal).tolist() == [0, 100]
        np.testing.assert_allclose(model.initial[1:100], 1 / 99, rtol=1e-6)
        assert model.initial[0] == model.initial[100] == 0


def test_bold_play_is_optimal(models):
    """V(s) = p V(2s) up to 50, beyond p + (1 − p) V(2s − 100): Dubins and Savage."""
    model, capital = models[1], np.arange(101)
    next_states, chances = (
        np.asarray(x)
        for x in (model.transitions.next_states, model.transitions.probabilities)
    )
    values = np.zeros(101)
    for _ in range(200):
        q_values = model.rewards + (chances * values[next_states]).sum(2)
        values = np.where(capital % 100, np.max(q_values, 1), 0)
    values[100] = 1  # of being there
    half = np.arange(51)
    np.testing.assert_allclose(values[half], 0.4 * values[2 * half], atol=1e-6)
    np.testing.assert_allclose(
        values[half + 50], 0.4 + 0.6 * values[2 * half], atol=1e-6
    )
    np.testing.assert_allclose(values[[25, 50, 75]], [0.16, 0.4, 0.64], atol=1e-6)


def test_games_begin_with_any_capital_between(game, monkeypatch):
    monkeypatch.setattr(random, "below", lambda drawn, number: drawn % number)
    state, obs = jax.jit(jax.vmap(game.reset))(jnp.arange(198, dtype=jnp.int32))
    np.testing.assert_array_equal(state, obs)
    assert sorted(state.tolist()) == sorted([*range(1, 100)] * 2)
    assert state.dtype == jnp.int32


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"heads": 1.1}, ValueError, r"Gambler.heads must be in \[0, 1\], got 1.1"),
        ({"goal": 1}, ValueError, "Gambler.goal must be at least 2, got 1"),
        ({"goal": 65537}, ValueError, "Gambler.goal must be at most 65536"),
        ({"goal": 9.5}, TypeError, "Gambler.goal must be an integer, got 9.5"),
    ],
)
def test_impossible_games_are_refused(fields, error, message):
    with pytest.raises(error, match=message):
        rljax.Gambler(**fields)


@pytest.mark.slow
def test_chances_map_over_coins():
    """With a fair coin, whatever is staked wins with probability s / 100."""

    @jax.vmap
    def chances(heads):
        model = rljax.Gambler(heads=heads, goal=20).to_mdp(sparse=True)
        return planning.value_iteration(model, 1.0).values

    values = chances(jnp.array([0.5, 1.0]))
    np.testing.assert_allclose(values[0, :20], np.arange(20) / 20, atol=1e-5)
    np.testing.assert_allclose(values[1, 1:20], 1, atol=1e-6)


@pytest.mark.slow
def test_q_learning_finds_a_policy_nearly_as_good_as_bold_play():
    agent = rljax.QLearning(
        discount=1.0, step_size=0.02, num_envs=16, rollout_length=1000
    )
    env = rljax.Gambler(goal=20)
    _, _, curve = rljax.regret.train_with_exact_returns(
        agent, env, jax.random.key(0), num_updates=60, every=60
    )
    assert curve.greedy_regret[-1] < 0.05
    assert curve.greedy_regret[0] > 0.2  # that of always staking 1
