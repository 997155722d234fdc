"""Pulls and regret of agents on bandits, by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rljax
from rljax.tabular import bandits
from rljax.tabular import exploration as ex
from rljax.tabular.bandits import Pulls, lai_robbins
from tests.conftest import enable_x64

LEARNER = rljax.QLearning(
    discount=0.0, step_size=None, exploration=ex.EpsilonGreedy(0.3)
)
MEANS = [1.0, 1.4, 0.7, 1.4, 0.2]
FIXED = rljax.GaussianBandit(means=MEANS, noise_scale=0.3)


@functools.cache
def fixed():
    with enable_x64():
        out = bandits.play_bandit(LEARNER, FIXED, jax.random.key(1), num_pulls=1000)
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
        jax.vmap(lambda key: bandits.play_bandit(LEARNER, FIXED, key, num_pulls=400)[1])
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
        _, pulls = bandits.play_bandit(LEARNER, env, jax.random.key(1), num_pulls=1000)
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
    _, pulls = bandits.play_bandit(agent, env, jax.random.key(1), num_pulls=20_000)
    actions, rewards = np.asarray(pulls.actions), np.asarray(pulls.rewards)
    assert set(rewards) == {0.0, 1.0}
    for arm, mean in enumerate([0.2, 0.9, 0.5, 0.0, 1.0]):
        paid = rewards[actions == arm]
        error = np.sqrt(mean * (1 - mean) / len(paid))
        assert abs(paid.mean() - mean) <= 4 * error


@pytest.mark.parametrize(
    "num_pulls",
    [1, 200, 251, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 127, 128))],
)
def test_any_number_of_pulls_is_played(num_pulls, key):
    # Pulls are drawn in blocks; primes and small numbers have no block that fits.
    state, pulls = bandits.play_bandit(LEARNER, FIXED, key, num_pulls=num_pulls)
    assert {x.shape for x in pulls} == {(num_pulls,)}
    assert state.counts.sum() == num_pulls


def test_the_key_draws_the_bandit_and_everything_on_it(key):
    env = rljax.make("GaussianBandit-5")

    def play(key):
        return bandits.play_bandit(LEARNER, env, key, num_pulls=50)[1]

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
        bandits.play_bandit(
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


@pytest.mark.parametrize("noise_scale", [None, 0.3])
def test_lai_robbins_of_many_bandits_is_that_of_each(noise_scale):
    means = np.random.default_rng(0).uniform(size=(2, 3, 4))
    slopes = jax.jit(lambda m: lai_robbins(m, noise_scale=noise_scale))(means)
    assert slopes.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        best, expected = means[i, j].max(), 0.0
        for mean in means[i, j][means[i, j] < best]:
            divergence = stats.entropy([mean, 1 - mean], [best, 1 - best])
            if noise_scale is not None:
                divergence = (best - mean) ** 2 / (2 * noise_scale**2)
            expected += (best - mean) / divergence
        np.testing.assert_allclose(slopes[i, j], expected, rtol=1e-4)


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


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan, np.inf])
def test_means_of_bernoulli_arms_are_probabilities(wrong):
    with pytest.raises(ValueError, match=r"means must be finite, in \[0, 1\], got"):
        lai_robbins(jnp.array([0.5, wrong]))
    if np.isfinite(wrong):
        assert np.isfinite(lai_robbins(jnp.array([0.5, wrong]), noise_scale=1.0))


@pytest.mark.parametrize("noise_scale", [None, 0.5])
def test_the_slope_of_lai_robbins_is_differentiable_where_arms_tie(noise_scale):
    slope = jax.grad(lambda means: lai_robbins(means, noise_scale=noise_scale))
    found = slope(jnp.array([0.7, 0.7, 0.2]))
    assert np.isfinite(found).all()
    # The worse the third arm, the less it costs to tell that it is.
    assert found[2] > 0


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


def test_a_discount_on_a_bandit_is_refused(key):
    with pytest.raises(ValueError, match=r"agent.discount must be 0 on a bandit"):
        bandits.play_bandit(rljax.QLearning(), rljax.GaussianBandit(), key, num_pulls=5)


def test_compared_bandits_are_the_ones_played_and_shared_by_all(key):
    env = rljax.GaussianBandit()
    agents = {
        "z": [
            rljax.QLearning(discount=0.0, exploration=ex.EpsilonGreedy(e))
            for e in (0.0, 1.0)
        ],
        "a": [rljax.QLearning(discount=0.0, exploration=ex.UCB(1.0))],
    }
    curves, means = bandits.compare_bandits(
        agents, env, key, num_bandits=6, num_pulls=40, num_points=4
    )
    assert list(curves) == ["z", "a"]
    keys = jax.random.split(key, 6)
    for name, settings in agents.items():
        np.testing.assert_array_equal(curves[name].pulls, [10, 20, 30, 40])
        for g, agent in enumerate(settings):
            for b in range(6):
                _, pulls = bandits.play_bandit(agent, env, keys[b], num_pulls=40)
                at = [9, 19, 29, 39]
                expected = np.asarray(pulls.expected_regret)[at]
                got = curves[name].expected_regret[b, g]
                # Gaps are differences of means near 1, in single precision.
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(pulls.best_means[0], means[b].max())


@pytest.mark.parametrize("agents", [[rljax.QLearning()], {1: [rljax.QLearning()]}])
def test_agents_without_names_are_refused(agents, key):
    with pytest.raises(
        TypeError, match="agents must be a dictionary of lists of agent"
    ):
        bandits.compare_bandits(
            agents, rljax.GaussianBandit(), key, num_bandits=2, num_pulls=3
        )


def test_settings_of_different_kinds_are_refused(key):
    mixed = [rljax.QLearning(discount=0.0), rljax.Sarsa(discount=0.0)]
    with pytest.raises(ValueError, match=r"must be agents that differ"):
        bandits.compare_bandits(
            {"mixed": mixed}, rljax.GaussianBandit(), key, num_bandits=2, num_pulls=3
        )


@pytest.mark.parametrize("scale", [None, 0.1], ids=["still", "drifting"])
def test_a_watched_bandit_is_the_one_played(scale, key):
    env = rljax.GaussianBandit(drift_scale=scale)
    state, pulls = bandits.play_bandit(LEARNER, env, key, num_pulls=90)
    watched = bandits.watch_bandit(LEARNER, env, key, num_pulls=90)
    jax.tree.map(np.testing.assert_array_equal, watched.pulls, pulls)
    means = np.asarray(watched.means)
    np.testing.assert_array_equal(means.max(-1), pulls.best_means)
    gaps = means.max(-1) - means[np.arange(90), pulls.actions]
    np.testing.assert_array_equal(gaps, pulls.gaps)
    tables = watched.agent_states
    for n in (1, 2, 40, 90):
        actions, rewards = np.asarray(pulls.actions)[:n], np.asarray(pulls.rewards)[:n]
        counts = np.bincount(actions, minlength=5)
        np.testing.assert_array_equal(tables.counts[n - 1, 0], counts)
        sums = np.bincount(actions, rewards, minlength=5)
        expected = sums / np.maximum(counts, 1)
        np.testing.assert_allclose(tables.q_values[n - 1, 0], expected, rtol=1e-4)
    ends = jax.tree.map(lambda x: x[-1], tables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ends, state)


def test_other_numbers_are_compared_without_compiling_anew(key):
    def compare(epsilon, noise):
        agents = {
            "ε": [rljax.QLearning(discount=0.0, exploration=ex.EpsilonGreedy(epsilon))]
        }
        env = rljax.GaussianBandit(noise_scale=noise)
        sizes = {"num_bandits": 3, "num_pulls": 6, "num_points": 2}
        return bandits.compare_bandits(agents, env, key, **sizes)[0]["ε"]

    first = compare(0.0, 0.3)
    programs = bandits._comparison.cache_info().misses
    compiled = bandits._play_bandit._cache_size()
    other = compare(1.0, 0.0)
    assert bandits._comparison.cache_info().misses == programs
    assert bandits._play_bandit._cache_size() == compiled
    assert not np.array_equal(first.realised_regret, other.realised_regret)
    # Without noise, the two regrets are one.
    np.testing.assert_allclose(
        other.realised_regret, other.expected_regret, rtol=1e-4, atol=1e-4
    )


def test_compared_agents_are_checked_with_their_numbers(key):
    thompson = rljax.QLearning(discount=0.0, exploration=ex.ThompsonBernoulli())
    with pytest.raises(ValueError, match=r"is for rewards in \[0, 1\]"):
        bandits.compare_bandits(
            {"a": [thompson]}, rljax.GaussianBandit(), key, num_bandits=2, num_pulls=3
        )
    with pytest.raises(ValueError, match=r"agent.discount must be 0 on a bandit"):
        bandits.compare_bandits(
            {"a": [rljax.QLearning()]},
            rljax.GaussianBandit(),
            key,
            num_bandits=2,
            num_pulls=3,
        )
