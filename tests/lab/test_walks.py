"""What the page shows of learning on a grid is what rljax says."""

import dataclasses

import jax
import numpy as np
import pytest

import rljax
from rljax import planning
from rljax.lab import walks

GRID = rljax.make("GridWorld-7x7")
SMALL = rljax.make("GridWorld-5x5")


def walk(grid=SMALL, **arguments):
    return walks.Walk(grid, **{"others": False} | arguments)


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "Q-learning"))
        for name in walks.AGENTS
    ],
)
def test_the_table_is_that_of_train_bit_for_bit(agent):
    shown = walk(agent=agent, seed=5)
    for number in (1, 1, 40, 358):  # single steps, pauses and longer spans
        shown.advance(number)
    learner = walks.AGENTS[agent](
        exploration=rljax.exploration.EpsilonGreedy(0.3),
        step_size=0.1,
        discount=0.99,
        rollout_length=1,
        num_envs=1,
    )
    env = dataclasses.replace(SMALL, slip=0.0)
    state, metrics = rljax.train(learner, env, jax.random.key(5), num_updates=400)
    table = learner.action_values(state.agent_state)
    np.testing.assert_array_equal(shown.q_values, table)
    assert np.any(shown.q_values != 0)
    assert shown.num_episodes == metrics.num_episodes.sum()
    assert shown.num_steps == 400
    assert shown.cell == state.rollout_state.env_state[0]
    running = state.rollout_state.episode_return.value[0]
    total = metrics.episode_return_sum.sum() + running
    np.testing.assert_allclose(shown.total_reward, total, rtol=1e-5)
    assert shown.steps_in_episode == 400 - metrics.episode_length_sum.sum()


@pytest.mark.parametrize("rule", walks.RULES)
def test_every_rule_learns(rule):
    shown = walk(rule=rule, settings=walks.Settings(walks.RULES[rule].start))
    shown.advance(300)
    assert np.any(shown.q_values != 0)
    assert np.isfinite(shown.q_values).all()


def test_settings_act_from_the_next_step_on_and_compile_nothing():
    settings = walks.Settings(explore=0.0, step_size=1.0)
    shown, other = walk(), walk(settings=settings)
    shown.advance(50)
    compiled = walks._advance._cache_size()
    shown.change(walks.Settings(step_size=0.0))
    before = shown.q_values
    shown.advance(50)
    np.testing.assert_array_equal(shown.q_values, before)  # α = 0 learns nothing
    other.advance(200)
    assert walks._advance._cache_size() == compiled
    # ε = 0 never explores: each step is the best known, or one of several.
    for _ in range(30):
        best = other.q_values[other.cell]
        cell = other.cell
        other.advance(1)
        if other.steps_in_episode:
            moves = [int(walks._moves(SMALL)[0][cell, a]) for a in range(4)]
            assert other.cell in [moves[a] for a in np.flatnonzero(best == best.max())]


def test_slips_act_at_once():
    shown = walk(settings=walks.Settings(explore=0.0, slip=1.0))
    assert shown.exact().best < walk().exact().best
    shown.change(walks.Settings(slip=0.0))
    assert shown.exact().best == walk().exact().best


def test_the_exact_answer_is_that_of_planning():
    shown = walk(GRID)
    exact = shown.exact()
    mdp = dataclasses.replace(GRID, slip=0.0).to_mdp()
    plan = planning.policy_iteration(mdp, 0.99)
    np.testing.assert_allclose(exact.values, plan.values, atol=1e-4)
    # 11 steps of −0.01 and the goal.
    best = -0.01 * sum(0.99**k for k in range(11)) + 0.99**11
    assert exact.best == pytest.approx(best, abs=1e-5)
    assert exact.shortest == 12
    own, others = shown.expected_returns()
    policy = np.zeros(49, int)  # of a table of zeros
    assert own == pytest.approx(
        float(planning.expected_return(mdp, policy, 0.99)), abs=1e-4
    )
    assert others is None


def test_it_finds_the_shortest_path():
    shown = walk(settings=walks.Settings(explore=0.3, step_size=0.5))
    assert not shown.greedy_path()[1]
    shown.advance(20_000)
    path, at_goal = shown.greedy_path()
    assert at_goal
    assert len(path) - 1 == shown.exact().shortest == 8
    assert path[0] == 0
    assert path[-1] == 24
    assert shown.expected_returns()[0] == pytest.approx(shown.exact().best, abs=1e-5)


def test_an_episode_is_finished():
    shown = walk()
    for number in (1, 2, 3):
        shown.finish_episode()
        assert shown.num_episodes == number
        assert shown.steps_in_episode == 0


@pytest.mark.slow
def test_the_others_are_other_seeds_and_change_nothing():
    shown, alone = walk(others=True), walk()
    for one in (shown, alone):
        one.advance(500)
    np.testing.assert_array_equal(shown.q_values, alone.q_values)
    own, others = shown.expected_returns()
    assert own == pytest.approx(alone.expected_returns()[0], abs=1e-3)
    assert others.shape == (walks.NUM_OTHERS,)
    tables = np.asarray(shown.others.agent_state.q_values)
    assert len(np.unique(tables, axis=0)) == walks.NUM_OTHERS
    assert not np.any((tables == shown.q_values).all(axis=(1, 2)))
    assert others.max() <= shown.exact().best + 1e-4


@pytest.mark.slow
def test_a_large_map_is_judged_alone():
    cells = np.full((50, 50), ".")
    cells[0, 0], cells[-1, -1] = "A", "G"
    grid, warning = walks.grid_of("\n".join(map("".join, cells)))
    assert warning == ""
    shown = walks.Walk(grid)
    assert shown.others is None
    shown.advance(100)
    assert shown.exact().shortest == 98
    assert np.isfinite(shown.expected_returns()[0])


def test_maps_are_refused_or_warned_of():
    with pytest.raises(ValueError, match="goal"):
        walks.grid_of("A..\n...")
    grid, warning = walks.grid_of("A#G")
    assert "the goal at (0, 2) is unreachable" in warning
    assert walk(grid).exact().shortest is None
    path, at_goal = walks.follow(walks.grid_of("A.P\n..G")[0], np.full(6, 3))
    assert (path, at_goal) == ([0, 1, 2], False)
