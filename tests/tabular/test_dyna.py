"""Dyna-Q against a scalar loop that is given the same random words."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import planning, rollout
from rljax.types import Transition
from tests.conftest import enable_x64
from tests.oracles import tabular as oracle

GRID = rljax.GridWorld(("A..", "..G"), slip=0.3, step_reward=-0.1)
SHAPE = (6, 4)
NUM_STEPS, NUM_PLANNING = 40, 3


@functools.cache
def walk(num_envs):
    """Any transitions whatever, with ends of both kinds, and words of planning."""
    rng = np.random.default_rng(num_envs)
    size = (NUM_STEPS, num_envs)
    ends = rng.integers(6, size=size)
    return Transition(
        obs=rng.integers(5, size=size).astype(np.int32),
        action=rng.integers(4, size=size).astype(np.int32),
        reward=rng.normal(size=size),
        terminated=ends == 0,
        truncated=ends == 1,
        next_obs=rng.integers(6, size=size).astype(np.int32),
        extras={"planning": rng.random((*size, NUM_PLANNING, 2))},
    )


@jax.jit
def learned(agent, trajectory):
    key = jax.random.key(0)
    return agent.update(agent.init(key, GRID), trajectory, key)


def by_oracle(agent, trajectory, shape=SHAPE):
    table = np.full(shape, agent.initial_value)
    words = trajectory.extras["planning"]
    settings = (agent.step_size, agent.discount, agent.bonus)
    return table, *oracle.dyna_q(table, words, trajectory, *settings)


def assert_model(model, expected, times):
    """That the model holds the last outcome of each pair, and when it was."""
    num_states, num_actions = model.reward.shape
    for s in range(num_states):
        for a in range(num_actions):
            found = (model.reward[s, a], model.next_obs[s, a], model.terminated[s, a])
            assert found == expected.get(s, {}).get(a, (0.0, s, False))
            assert model.last_taken[s, a] == times.get((s, a), 0)
    np.testing.assert_array_equal(model.visited[: model.num_visited], list(expected))


def check(agent, num_envs):
    with enable_x64():
        state, metrics = jax.tree.map(np.asarray, learned(agent, walk(num_envs)))
    table, model, times, errors = by_oracle(agent, walk(num_envs))
    assert state.q_values.dtype == np.float64
    np.testing.assert_allclose(state.q_values, table, rtol=1e-12, atol=1e-12)
    assert_model(state.model, model, times)
    np.testing.assert_allclose(metrics["abs_td_error"], np.mean(np.abs(errors)))
    return state


AGENT = rljax.DynaQ(num_planning_steps=NUM_PLANNING, initial_value=0.5, discount=0.9)


@pytest.mark.parametrize("bonus", [0.0, 0.3])
def test_the_table_and_the_model_equal_the_scalar_loop(bonus):
    # Some of its steps are truncated, and none of these is terminated in the model.
    check(dataclasses.replace(AGENT, bonus=bonus), 1)


@pytest.mark.slow
@pytest.mark.parametrize("bonus", [0.0, 0.3])
def test_several_environments_share_table_and_model(bonus):
    state = check(dataclasses.replace(AGENT, bonus=bonus, num_envs=3), 3)
    assert state.num_steps == 3 * NUM_STEPS


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_planning_steps": -1}, ValueError, "DynaQ.num_planning_steps must be"),
        ({"num_planning_steps": 2.0}, TypeError, "DynaQ.num_planning_steps"),
        ({"bonus": -0.1}, ValueError, "DynaQ.bonus must be"),
        ({"bonus": None}, TypeError, "DynaQ.bonus"),
        ({"step_size": None}, ValueError, "DynaQ.step_size must be a number or a sch"),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        rljax.DynaQ(**settings)


@pytest.mark.slow
def test_without_planning_it_is_q_learning():
    trajectory = walk(1)._replace(extras={"planning": jnp.zeros((NUM_STEPS, 1, 0, 2))})
    tables = [
        learned(agent, trajectory)[0].q_values
        for agent in (rljax.DynaQ(num_planning_steps=0), rljax.QLearning())
    ]
    np.testing.assert_array_equal(*tables)


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("bonus", [0.0, 0.01])
def test_an_online_run_is_re_executed(bonus, num_envs):
    env = rljax.TimeLimit(GRID, 4)
    agent = dataclasses.replace(AGENT, bonus=bonus, num_envs=num_envs)
    agent = dataclasses.replace(agent, rollout_length=200)

    @jax.jit
    def run(agent, key):
        state = agent.init(key, env)
        start = rollout.start_all(agent, state, env, key)
        words = rollout.draw(agent, state, env, key).act[1]
        done = rollout.interact(
            agent, state, env, start, key, key, record=lambda _, transition: transition
        )
        return done.agent_state, done.records, words

    with enable_x64():
        out = jax.tree.map(np.asarray, run(agent, jax.random.key(1)))
    state, trajectory, words = out
    np.testing.assert_array_equal(trajectory.extras["planning"], words)
    assert (trajectory.truncated & ~trajectory.terminated).sum() > 5
    table, model, times, _ = by_oracle(agent, trajectory)
    np.testing.assert_allclose(state.q_values, table, rtol=1e-12, atol=1e-12)
    assert_model(state.model, model, times)


@pytest.mark.slow
def test_planning_on_the_whole_model_is_value_iteration():
    # Each pair is seen once; from then on its updates converge to the best values.
    env = dataclasses.replace(GRID, slip=None)
    obs, action = (x.astype(np.int32) for x in np.divmod(np.arange(20), 4))
    with enable_x64():
        outcomes = jax.vmap(env.outcomes)(obs, action)
        words = np.random.default_rng(0).random((20, 1, 3000, 2))
        trajectory = Transition(
            obs=obs[:, None],
            action=action[:, None],
            reward=outcomes.rewards,
            terminated=outcomes.terminated,
            truncated=np.ones((20, 1), bool),
            next_obs=outcomes.next_cells,
            extras={"planning": words},
        )
        agent = rljax.DynaQ(num_planning_steps=3000, step_size=0.5)
        state, _ = learned(agent, trajectory)
        mdp = env.to_mdp()
        values = planning.value_iteration(mdp, agent.discount, tolerance=1e-12).values
        best = planning.q_values(mdp, values, agent.discount)
    np.testing.assert_allclose(state.q_values, best, atol=1e-9)
