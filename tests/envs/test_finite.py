"""Any finite MDP as an environment: its steps have the distribution of its arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rljax
from rljax import planning
from rljax.types import MDP, SparseTransitions

SPARSE = SparseTransitions(
    np.array([[[1, 2, 1], [0, 0, 0]], [[2, 1, 0], [2, 2, 1]], [[2, 2, 2]] * 2]),
    np.array(
        [
            [[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]],
            [[0.0, 0.7, 0.3], [0.01, 0.0, 0.99]],
            [[1.0, 0.0, 0.0]] * 2,
        ]
    ),
)
MODEL = MDP(
    SPARSE, [[1.0, -2.0], [0.5, 0.0], [0.0, 0.0]], [False, False, True], [0.25, 0.75, 0]
)
DENSE = MDP(SPARSE.dense(3), MODEL.rewards, MODEL.terminal, MODEL.initial)
NUM_SAMPLES = 20_000


@functools.cache
def steps(dense, state, action):
    env = rljax.FiniteMDP(DENSE if dense else MODEL)
    keys = jax.random.split(jax.random.key(state + 10 * action), NUM_SAMPLES)
    step = jax.jit(jax.vmap(env.step, (None, None, 0)))
    return step(jnp.int32(state), jnp.int32(action), keys)


@pytest.mark.parametrize("dense", [False, True], ids=["sparse", "dense"])
@pytest.mark.parametrize("state", [0, 1])
@pytest.mark.parametrize("action", [0, 1])
def test_successors_have_the_model_s_distribution(dense, state, action):
    next_states, time_step = steps(dense, state, action)
    expected = np.asarray(DENSE.transitions[state, action], float)
    counts = np.bincount(next_states, minlength=3)
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    if possible.sum() > 1:
        wanted = expected[possible] / expected.sum() * NUM_SAMPLES
        assert stats.chisquare(counts[possible], wanted).pvalue > 1e-3
    np.testing.assert_array_equal(time_step.obs, next_states)
    np.testing.assert_array_equal(time_step.reward, MODEL.rewards[state, action])
    np.testing.assert_array_equal(time_step.terminated, next_states == 2)
    assert not time_step.truncated.any()


def test_initial_states_have_the_model_s_distribution():
    keys = jax.random.split(jax.random.key(0), NUM_SAMPLES)
    states, obs = jax.jit(jax.vmap(rljax.FiniteMDP(MODEL).reset))(keys)
    np.testing.assert_array_equal(states, obs)
    counts = np.bincount(states, minlength=3)
    assert counts[2] == 0
    assert stats.chisquare(counts[:2], [5000, 15_000]).pvalue > 1e-3


@pytest.mark.parametrize(
    "model",
    [MODEL, pytest.param(DENSE, marks=pytest.mark.slow)],
    ids=["sparse", "dense"],
)
def test_it_keeps_the_contract(model):
    env = rljax.FiniteMDP(model)
    rljax.testing.check_env(env, jax.random.key(0))
    for whole in (env.to_mdp(), rljax.TimeLimit(env, 3).to_mdp()):
        jax.tree.map(np.testing.assert_array_equal, whole, DENSE)
    listed = env.to_mdp(sparse=True)
    np.testing.assert_array_equal(listed.transitions.dense(3), DENSE.transitions)
    np.testing.assert_array_equal(listed.rewards, MODEL.rewards)
    with pytest.raises(TypeError, match=r"FiniteMDP.mdp must be .*MDP"):
        rljax.FiniteMDP(rljax.GridWorld())


def test_a_maze_s_model_moves_as_the_maze_does():
    maze = rljax.make("GridWorld-5x5")
    model = rljax.FiniteMDP(maze.to_mdp())
    acts = np.flatnonzero(~np.asarray(maze.to_mdp().terminal))
    cells, actions = map(jnp.ravel, jnp.meshgrid(jnp.array(acts), jnp.arange(4)))

    def both(cell, action):
        key = jax.random.key(0)
        return maze.step(cell, action, key), model.step(cell, action, key)

    one, other = jax.jit(jax.vmap(both))(cells, actions)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
def test_training_maps_over_models_of_one_size():
    """Each is learned as well as if it were alone."""
    maps = ("A..\n.#.\n..G", "A#.\n...\n.#G", "A..\n##.\nG..")
    mdps = [rljax.GridWorld.from_text(text).to_mdp() for text in maps]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *mdps)
    agent = rljax.QLearning(rollout_length=500)

    @jax.jit
    def learn(mdp):
        env = rljax.FiniteMDP(mdp)
        state, _ = rljax.train(agent, env, jax.random.key(0), num_updates=6)
        return state.agent_state.q_values

    q_values = jax.vmap(learn)(stacked)
    for q, mdp in zip(q_values, mdps, strict=True):
        best = planning.value_iteration(mdp, 0.99)
        policy = jnp.argmax(q, axis=-1)
        found = planning.expected_return(mdp, policy, 0.99)
        assert found == pytest.approx(planning.initial_value(mdp, best.values))
    np.testing.assert_allclose(q_values[0], learn(mdps[0]), atol=1e-6)
