"""Exact returns in training, against planning and sampled episodes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import rollout
from rljax.tabular import exploration as ex
from rljax.tabular import planning, regret
from tests import probes
from tests.conftest import enable_x64
from tests.oracles import planning as oracle

GRID = rljax.TimeLimit(
    rljax.GridWorld(("A..", ".P.", "..G"), slip=0.3, step_reward=-0.1), 50
)
AGENTS = [
    rljax.QLearning(rollout_length=40, discount=0.9),
    rljax.Sarsa(rollout_length=40, discount=0.9, lambda_=0.5, num_envs=2),
    rljax.ExpectedSarsa(rollout_length=40, discount=0.9, exploration=ex.UCB(0.5)),
    rljax.DoubleQLearning(rollout_length=40, discount=0.9),
    rljax.GradientBandit(rollout_length=40, discount=0.9),
]
ALL = pytest.mark.parametrize("agent", AGENTS, ids=lambda a: type(a).__name__)
QUICK = AGENTS[0]


@functools.cache
def curves(agent, every=1):
    """The learned agent state, metrics and curve, in x64 and NumPy."""
    with enable_x64():
        state, *rest = regret.train_with_exact_returns(
            agent, GRID, jax.random.key(2), num_updates=12, every=every
        )
    return jax.tree.map(np.asarray, (state.agent_state, *rest))


@functools.cache
def states(agent):
    """The agent's states before and after each of 12 updates."""
    with enable_x64():
        step = jax.jit(rljax.train_step)
        state = rljax.init_train(agent, GRID, jax.random.key(2))
        reached = [state.agent_state]
        for _ in range(12):
            state, _ = step(agent, GRID, state)
            reached.append(state.agent_state)
        return reached


@pytest.mark.slow
@ALL
def test_every_point_is_the_exact_return_of_the_policy_at_that_update(agent):
    _, _, curve = curves(agent)
    np.testing.assert_array_equal(curve.num_updates, np.arange(13))
    with enable_x64():
        mdp = GRID.to_mdp()
        for i, state in enumerate(states(agent)):
            for policy, value in (
                (agent.greedy_policy(state), curve.greedy[i]),
                (agent.behaviour_policy(state), curve.behaviour[i]),
            ):
                expected = planning.expected_return(mdp, policy, 0.9)
                np.testing.assert_allclose(value, expected, rtol=1e-9)
        best = planning.value_iteration(mdp, 0.9, 1e-12).values[0]
    np.testing.assert_allclose(curve.optimal, best, rtol=1e-9)
    assert len(np.unique(curve.behaviour)) > 1


@pytest.mark.slow
@ALL
def test_the_training_is_that_of_train(agent):
    state, metrics, _ = curves(agent)
    with enable_x64():
        plain = rljax.train(agent, GRID, jax.random.key(2), num_updates=12)
    for a, b in zip(
        jax.tree.leaves((state, metrics)),
        jax.tree.leaves((plain[0].agent_state, plain[1])),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@ALL
def test_regret_is_never_negative(agent):
    _, _, curve = curves(agent)
    for values in (curve.greedy_regret, curve.behaviour_regret):
        assert (values >= -1e-9).all()
        assert values.max() > 0.01
    np.testing.assert_allclose(curve.greedy_regret, curve.optimal - curve.greedy)


@pytest.mark.slow
def test_regret_in_single_precision_is_not_negative_beyond_rounding():
    _, _, curve = regret.train_with_exact_returns(
        rljax.QLearning(rollout_length=500),
        rljax.GridWorld(),
        jax.random.key(0),
        num_updates=40,
    )
    assert curve.greedy.dtype == jnp.float32
    assert (curve.greedy_regret >= -1e-5).all()
    assert (curve.behaviour_regret >= -1e-5).all()
    # Published: 0.864129 of the shortest path, found long before 20,000 steps.
    np.testing.assert_allclose(curve.optimal, 0.864129, atol=2e-6)
    np.testing.assert_allclose(curve.greedy_regret[-1], 0, atol=1e-5)
    assert curve.behaviour_regret[-1] > 0.01


@pytest.mark.slow
def test_a_coarser_curve_is_every_third_point_of_the_same_training():
    state, metrics, fine = curves(QUICK)
    coarse_state, coarse_metrics, coarse = curves(QUICK, every=3)
    np.testing.assert_array_equal(coarse.num_updates, [0, 3, 6, 9, 12])
    for name in ("greedy", "behaviour"):
        np.testing.assert_allclose(
            getattr(coarse, name), getattr(fine, name)[::3], rtol=1e-12
        )
    assert coarse_metrics.num_episodes.shape == (12,)
    np.testing.assert_array_equal(coarse_metrics.num_episodes, metrics.num_episodes)
    np.testing.assert_allclose(coarse_state.q_values, state.q_values, rtol=1e-12)


def test_the_first_point_is_the_untrained_policy_and_may_be_the_only_one(key):
    _, metrics, curve = regret.train_with_exact_returns(QUICK, GRID, key, num_updates=0)
    assert curve.greedy.shape == curve.behaviour.shape == (1,)
    assert metrics.num_episodes.shape == (0,)
    mdp, up = GRID.to_mdp(), jnp.zeros(9, jnp.int32)
    expected = planning.expected_return(mdp, up, 0.9)
    np.testing.assert_allclose(curve.greedy[0], expected, rtol=1e-5)
    # Every row is all ties, which the behaviour shares out.
    uniform = jnp.full((9, 4), 0.25)
    expected = planning.expected_return(mdp, uniform, 0.9)
    np.testing.assert_allclose(curve.behaviour[0], expected, rtol=1e-5)


@pytest.mark.slow
def test_it_is_the_mean_discounted_return_of_many_episodes(record_property):
    agent, grid, num_episodes = QUICK, GRID.env, 40_000
    _, _, curve = curves(agent)
    with enable_x64():
        learned = states(agent)[12]

    def discounted_return(choose, key):
        start = rollout.start(grid, key)

        class Frozen(rljax.Agent):
            init = update = None

            def act(self, state, obs, key):
                return choose(obs, key), ()

        # Beyond 120 steps, what is missed is below 0.9^120 / (1 − 0.9) = 3e-5.
        trajectory = rollout.unroll(Frozen(), (), grid, start, key, length=120)[1]
        first = rljax.returns.first_episode(trajectory.terminated, trajectory.truncated)
        return jnp.sum(0.9 ** jnp.arange(120) * trajectory.reward * first)

    keys = jax.random.split(jax.random.key(6), num_episodes)
    lines = []
    for name, choose, value in (
        ("greedy", lambda obs, _: agent.greedy(learned, obs), curve.greedy[12]),
        (
            "behaviour",
            lambda obs, key: agent.act(learned, obs, key)[0],
            curve.behaviour[12],
        ),
    ):
        with enable_x64():
            sampled = np.asarray(
                jax.jit(jax.vmap(functools.partial(discounted_return, choose)))(keys)
            )
        error = sampled.std() / np.sqrt(num_episodes)
        lines.append(f"{name} {value:.4f}, sampled {sampled.mean():.4f} ± {error:.4f}")
        assert abs(sampled.mean() - value) < 4 * error + 3e-5
    record_property("evidence", f"exact returns: {'; '.join(lines)}")


@pytest.mark.slow
def test_the_iterative_method_and_a_sparse_model_agree_with_the_solution():
    solved = curves(QUICK)[2]
    with enable_x64():
        _, _, iterated = regret.train_with_exact_returns(
            QUICK,
            GRID,
            jax.random.key(2),
            num_updates=12,
            mdp=GRID.to_mdp(sparse=True),
            method="iterative",
        )
    for name in ("greedy", "behaviour", "optimal"):
        np.testing.assert_allclose(
            getattr(iterated, name), getattr(solved, name), atol=9e-6
        )


@pytest.mark.slow
def test_curves_vmap_over_seeds(key):
    keys = jax.random.split(key, 3)

    def run(key):
        return regret.train_with_exact_returns(QUICK, GRID, key, num_updates=3)[2]

    together = jax.vmap(run)(keys)
    assert together.greedy.shape == (3, 4)
    np.testing.assert_allclose(
        together.behaviour[2], run(keys[2]).behaviour, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"every": 2},
            ValueError,
            "num_updates must be a multiple of every = 2, got 3",
        ),
        ({"every": 0}, ValueError, "every must be at least 1"),
        ({"num_updates": -1}, ValueError, "num_updates must be at least 0"),
        ({"num_updates": 1.0}, TypeError, "num_updates must be an integer"),
        ({"key": 0}, TypeError, "key must be a random key"),
        (
            {"agent": rljax.PPO()},
            TypeError,
            "agent must be a tabular agent .* PPO, which has no table",
        ),
        ({"env": "GridWorld-5x5"}, TypeError, "env must be an environment"),
        ({"env": probes.Endless()}, TypeError, "Endless has no to_mdp; pass the model"),
        (
            {"env": rljax.make("CartPole-v1")},
            TypeError,
            "CartPole can't enumerate itself",
        ),
        ({"mdp": "model"}, TypeError, "mdp"),
    ],
)
def test_bad_arguments_of_exact_returns_are_refused(changes, error, message, key):
    arguments = {"agent": QUICK, "env": GRID, "key": key, "num_updates": 3} | changes
    with pytest.raises(error, match=message):
        regret.train_with_exact_returns(
            arguments.pop("agent"),
            arguments.pop("env"),
            arguments.pop("key"),
            **arguments,
        )


@pytest.mark.slow
def test_without_discounting_a_policy_that_never_ends_has_infinite_regret(key, x64):
    agent, env = rljax.QLearning(discount=1.0), rljax.make("CliffWalking")
    state, _, curve = regret.train_with_exact_returns(agent, env, key, num_updates=1)
    np.testing.assert_allclose(curve.optimal, -13, rtol=1e-12)
    # The untrained policy walks up for ever.
    assert curve.greedy[0] == -np.inf
    assert curve.greedy_regret[0] == np.inf
    mdp = env.to_mdp()
    arrays = [np.asarray(x) for x in (mdp.transitions, mdp.rewards, mdp.terminal)]
    policy = np.full((48, 4), 0.25)  # all values tie: about −65,000
    expected = oracle.total_reward(*arrays, policy)[36]
    np.testing.assert_allclose(curve.behaviour[0], expected, rtol=1e-8)
    measured = regret.measure(agent, env, state.agent_state)
    for name, values in (
        ("greedy_return", curve.greedy),
        ("behaviour_return", curve.behaviour),
        ("greedy_regret", curve.greedy_regret),
    ):
        np.testing.assert_allclose(measured[name], values[1], rtol=1e-8)


@pytest.mark.slow
def test_regrets_of_vmapped_curves_are_each_their_own(key):
    def curve(goal_reward):
        env = rljax.make("GridWorld-5x5", goal_reward=goal_reward)
        agent = rljax.QLearning(rollout_length=20)
        return regret.train_with_exact_returns(agent, env, key, num_updates=2)[2]

    curves = jax.vmap(curve)(jnp.array([1.0, 2.0, 3.0]))
    for i in range(3):
        expected = curves.optimal[i] - curves.greedy[i]
        np.testing.assert_array_equal(curves.greedy_regret[i], expected)
