"""Exact returns in training, and regret of bandits, against planning and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import exploration as ex
from rljax import planning, regret, rollout
from rljax.regret import Pulls, lai_robbins
from tests import probes
from tests.conftest import enable_x64

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


@ALL
def test_regret_is_never_negative(agent):
    _, _, curve = curves(agent)
    for values in (curve.greedy_regret, curve.behaviour_regret):
        assert (values >= -1e-9).all()
        assert values.max() > 0.01
    np.testing.assert_allclose(curve.greedy_regret, curve.optimal - curve.greedy)


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
    # Every row is all ties: ε/4 for each action, and up is the greedy one.
    often_up = jnp.full((9, 4), 0.025).at[:, 0].add(0.9)
    expected = planning.expected_return(mdp, often_up, 0.9)
    np.testing.assert_allclose(curve.behaviour[0], expected, rtol=1e-5)


def test_it_is_the_mean_discounted_return_of_many_episodes(record_property):
    agent, grid, num_episodes = QUICK, GRID.env, 40_000
    _, _, curve = curves(agent)
    with enable_x64():
        learned = states(agent)[12]

    def discounted_return(choose, key):
        start = rollout.start(grid, key)

        class Frozen:
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
    ids=str,
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


LEARNER = rljax.QLearning(
    discount=0.0, step_size=None, exploration=ex.EpsilonGreedy(0.3)
)
MEANS = [1.0, 1.4, 0.7, 1.4, 0.2]
FIXED = rljax.GaussianBandit(means=MEANS, noise_scale=0.3)


@functools.cache
def fixed():
    with enable_x64():
        out = regret.play_bandit(LEARNER, FIXED, jax.random.key(1), num_pulls=1000)
        properties = out[1].expected_regret, out[1].realised_regret, out[1].optimal
        return jax.tree.map(np.asarray, (*out, properties))


def test_regret_adds_up_the_gaps_of_the_arms_pulled():
    _, pulls, (expected, realised, optimal) = fixed()
    means = np.array(MEANS)
    np.testing.assert_array_equal(pulls.best_means, 1.4)
    np.testing.assert_allclose(pulls.gaps, 1.4 - means[pulls.actions], atol=1e-15)
    assert pulls.actions.dtype == np.int32
    total = 0.0
    for i in range(1000):
        total += 1.4 - means[pulls.actions[i]]
        np.testing.assert_allclose(expected[i], total, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        realised[-1], 1000 * 1.4 - pulls.rewards.sum(), rtol=1e-12
    )
    # Two arms are best.
    np.testing.assert_array_equal(optimal, np.isin(pulls.actions, [1, 3]))
    assert 0 < optimal.mean() < 1


def test_realised_and_expected_regret_differ_by_the_noise():
    keys = jax.random.split(jax.random.key(0), 2000)
    play = jax.jit(
        jax.vmap(lambda key: regret.play_bandit(LEARNER, FIXED, key, num_pulls=400)[1])
    )
    pulls = play(keys)
    noise = np.asarray(pulls.expected_regret - pulls.realised_regret, float)
    for t in (1, 100, 400):
        at_t = noise[:, t - 1]
        # t independent rewards of N(0, 0.3²), over 2000 seeds.
        assert abs(at_t.mean()) < 4 * 0.3 * np.sqrt(t / 2000)
        np.testing.assert_allclose(at_t.std(), 0.3 * np.sqrt(t), rtol=0.07)


def test_the_final_state_has_learned_from_every_pull():
    state, pulls, _ = fixed()
    np.testing.assert_array_equal(
        state.counts[0], np.bincount(pulls.actions, minlength=5)
    )
    assert state.num_steps == 1000


def test_gaps_of_a_drifting_bandit_use_the_means_at_the_time_of_the_pull():
    # Without noise the reward is the mean of the arm at that time.
    env = rljax.GaussianBandit(means=MEANS, noise_scale=0.0, drift_scale=0.1)
    with enable_x64():
        _, pulls = regret.play_bandit(LEARNER, env, jax.random.key(1), num_pulls=1000)
        pulls = jax.tree.map(np.asarray, pulls)
    np.testing.assert_allclose(pulls.gaps, pulls.best_means - pulls.rewards, atol=1e-12)
    assert pulls.best_means[0] == 1.4
    assert (pulls.gaps >= 0).all()
    assert len(np.unique(pulls.best_means)) > 100
    # The best of five random walks moves by no more than the largest of five steps.
    assert np.abs(np.diff(pulls.best_means)).max() < 0.1 * 6


def test_bernoulli_pulls_pay_0_or_1_as_often_as_their_means():
    env = rljax.BernoulliBandit(means=[0.2, 0.9, 0.5, 0.0, 1.0])
    agent = rljax.QLearning(discount=0.0, exploration=ex.EpsilonGreedy(1.0))
    _, pulls = regret.play_bandit(agent, env, jax.random.key(1), num_pulls=20_000)
    actions, rewards = np.asarray(pulls.actions), np.asarray(pulls.rewards)
    assert set(rewards) == {0.0, 1.0}
    for arm, mean in enumerate([0.2, 0.9, 0.5, 0.0, 1.0]):
        paid = rewards[actions == arm]
        error = np.sqrt(mean * (1 - mean) / len(paid))
        assert abs(paid.mean() - mean) <= 4 * error


@pytest.mark.parametrize("num_pulls", [1, 7, 127, 128, 200, 251])
def test_any_number_of_pulls_is_played(num_pulls, key):
    # Pulls are drawn in blocks; primes and small numbers have no block that fits.
    state, pulls = regret.play_bandit(LEARNER, FIXED, key, num_pulls=num_pulls)
    assert {x.shape for x in pulls} == {(num_pulls,)}
    assert state.counts.sum() == num_pulls


def test_the_key_draws_the_bandit_and_everything_on_it(key):
    env = rljax.make("GaussianBandit-5")

    def play(key):
        return regret.play_bandit(LEARNER, env, key, num_pulls=50)[1]

    first, again = play(key), play(key)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    bests = jax.vmap(play)(jax.random.split(key, 500)).best_means[:, 0]
    # The best of five N(1, 0.5²) means, of mean 1 + 0.5 · 1.16296.
    np.testing.assert_allclose(bests.mean(), 1.58148, atol=4 * 0.335 / np.sqrt(500))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_pulls": 0}, ValueError, "num_pulls must be at least 1, got 0"),
        ({"num_pulls": 2.0}, TypeError, "num_pulls must be an integer"),
        ({"agent": rljax.PPO()}, TypeError, "a tabular agent with num_envs = 1"),
        (
            {"agent": rljax.QLearning(num_envs=2)},
            TypeError,
            "a tabular agent with num_envs = 1",
        ),
        ({"agent": rljax.QLearning}, TypeError, "agent must be an agent"),
        ({"env": rljax.GaussianBandit}, TypeError, "env must be an environment"),
        ({"key": 3}, TypeError, "key must be a random key"),
        ({"env": rljax.make("CartPole-v1")}, TypeError, "means|bandit"),
        # No message in particular, but TypeError as the docstring says.
        ({"env": rljax.GridWorld()}, TypeError, "means|bandit"),
        ({"env": rljax.TimeLimit(FIXED, 10)}, TypeError, "means|bandit"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, dict) else None,
)
def test_bad_arguments_of_play_bandit_are_refused(changes, error, message, key):
    arguments = {"agent": LEARNER, "env": FIXED, "key": key, "num_pulls": 5} | changes
    with pytest.raises(error, match=message):
        regret.play_bandit(
            arguments["agent"],
            arguments["env"],
            arguments["key"],
            num_pulls=arguments["num_pulls"],
        )


def test_pulls_sum_along_time_whatever_stands_before_it():
    gaps = jnp.array([[0.0, 1.0, 0.0], [2.0, 0.0, 0.5]])
    pulls = Pulls(jnp.zeros((2, 3), jnp.int32), jnp.ones((2, 3)), gaps, gaps + 1)
    np.testing.assert_array_equal(pulls.expected_regret, [[0, 1, 1], [2, 2, 2.5]])
    np.testing.assert_array_equal(pulls.realised_regret, [[0, 1, 1], [2, 2, 2.5]])
    np.testing.assert_array_equal(pulls.optimal, [[1, 0, 1], [0, 1, 0]])


def test_lai_robbins_of_normal_arms_by_hand(x64):
    # Δ / (Δ² / 2σ²) = 2σ²/Δ: with σ = 0.3, 0.18/0.5 + 0.18/1.5.
    slope = lai_robbins(jnp.array([1.0, 1.5, 0.0]), noise_scale=0.3)
    np.testing.assert_allclose(slope, 0.36 + 0.12, rtol=1e-12)
    np.testing.assert_allclose(
        lai_robbins(jnp.array([[2.0, 2.0], [1.0, 2.0]]), noise_scale=1.0), [0, 2]
    )


def test_lai_robbins_of_bernoulli_arms_by_hand(x64):
    # kl(½, ¾) = ½ ln(½/¾) + ½ ln(½/¼) = ½ ln(4/3), so Δ/kl = 1 / (2 ln(4/3)).
    half = 1 / (2 * np.log(4 / 3))
    # kl(0, ¾) = ln(1/¼) = ln 4.
    nothing = 0.75 / np.log(4)
    for means, expected in [
        ([0.5, 0.75], half),
        ([0.75, 0.5, 0.75], half),
        ([0.0, 0.75], nothing),
        ([0.0, 0.5, 0.75], half + nothing),
        ([0.75, 0.75], 0.0),
        ([0.0, 0.0], 0.0),
        ([1.0, 1.0], 0.0),
        # One failure tells an arm from one that never fails: KL is infinite.
        ([0.5, 1.0], 0.0),
        ([0.0, 1.0], 0.0),
        ([0.3], 0.0),
    ]:
        np.testing.assert_allclose(
            lai_robbins(jnp.array(means)), expected, rtol=1e-12, err_msg=str(means)
        )


@pytest.mark.parametrize("gap", [0.1, 0.01, 0.001])
def test_lai_robbins_of_close_arms_in_single_precision(gap):
    # Among five arms of U[0, 1), two best within 0.001 are one bandit in 100.
    means = np.array([0.3, 0.3 + gap], np.float32)
    with enable_x64():
        expected = float(lai_robbins(jnp.array(means, jnp.float64)))
    np.testing.assert_allclose(lai_robbins(jnp.array(means)), expected, rtol=1e-2)


def test_lai_robbins_is_finite_for_arms_that_differ_by_rounding():
    for means in ([0.5, 0.5 + 6e-8], [0.2, 0.9, 0.9 - 6e-8]):
        assert jnp.isfinite(lai_robbins(jnp.array(means), noise_scale=0.3))
        assert jnp.isfinite(lai_robbins(jnp.array(means)))


@pytest.mark.parametrize("method", ["solve", "iterative"])
def test_exact_returns_without_discounting_are_refused(method, key):
    with pytest.raises(ValueError, match=r"agent.discount must be below 1, got 1.0"):
        regret.train_with_exact_returns(
            rljax.QLearning(discount=1.0),
            rljax.make("CliffWalking"),
            key,
            num_updates=1,
            method=method,
        )


def test_a_discount_on_a_bandit_is_refused(key):
    with pytest.raises(ValueError, match=r"agent.discount must be 0 on a bandit"):
        regret.play_bandit(rljax.QLearning(), rljax.GaussianBandit(), key, num_pulls=5)


def test_compared_bandits_are_the_ones_played_and_shared_by_all(key):
    env = rljax.GaussianBandit()
    agents = {
        "z": [
            rljax.QLearning(discount=0.0, exploration=ex.EpsilonGreedy(e))
            for e in (0.0, 1.0)
        ],
        "a": [rljax.QLearning(discount=0.0, exploration=ex.UCB(1.0))],
    }
    curves, means = regret.compare_bandits(
        agents, env, key, num_bandits=6, num_pulls=40, num_points=4
    )
    assert list(curves) == ["z", "a"]
    keys = jax.random.split(key, 6)
    for name, settings in agents.items():
        np.testing.assert_array_equal(curves[name].pulls, [10, 20, 30, 40])
        for g, agent in enumerate(settings):
            for b in range(6):
                _, pulls = regret.play_bandit(agent, env, keys[b], num_pulls=40)
                at = [9, 19, 29, 39]
                expected = np.asarray(pulls.expected_regret)[at]
                got = curves[name].expected_regret[b, g]
                # Gaps are differences of means near 1, in single precision.
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(pulls.best_means[0], means[b].max())


def test_settings_of_different_kinds_are_refused(key):
    mixed = [rljax.QLearning(discount=0.0), rljax.Sarsa(discount=0.0)]
    with pytest.raises(ValueError, match=r"must be agents that differ"):
        regret.compare_bandits(
            {"mixed": mixed}, rljax.GaussianBandit(), key, num_bandits=2, num_pulls=3
        )


def test_regrets_of_vmapped_curves_are_each_their_own(key):
    def curve(goal_reward):
        env = rljax.make("GridWorld-5x5", goal_reward=goal_reward)
        agent = rljax.QLearning(rollout_length=20)
        return regret.train_with_exact_returns(agent, env, key, num_updates=2)[2]

    curves = jax.vmap(curve)(jnp.array([1.0, 2.0, 3.0]))
    for i in range(3):
        expected = curves.optimal[i] - curves.greedy[i]
        np.testing.assert_array_equal(curves.greedy_regret[i], expected)
