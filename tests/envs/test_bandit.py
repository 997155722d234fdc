"""Bandits: the distributions of their arms, rewards and drift, by large samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rljax
from rljax.envs.bandit import BanditState, BernoulliBandit, GaussianBandit

NUM_SAMPLES = 40_000
MEANS = np.array([0.1, 0.5, 0.9])
# Keys are fixed, so a p below this is a wrong distribution and no bad luck.
LEAST_P = 1e-3

BANDITS = [
    GaussianBandit(),
    GaussianBandit(num_arms=3, means=MEANS, drift_scale=0.1),
    BernoulliBandit(),
    BernoulliBandit(num_arms=3, means=MEANS, drift_scale=0.1),
]
every_bandit = pytest.mark.parametrize(
    "env", BANDITS, ids=["gaussian", "gaussian drift", "bernoulli", "bernoulli drift"]
)


@functools.cache
def drawn_means(env):
    """[N, A] means of N resets."""
    keys = jax.random.split(jax.random.key(0), NUM_SAMPLES)
    states, _ = jax.jit(jax.vmap(env.reset))(keys)
    return np.asarray(states.means)


def pulls(env, state, action):
    """States and time steps of N pulls of one arm from one state."""
    keys = jax.random.split(jax.random.key(1), NUM_SAMPLES)
    step = jax.jit(jax.vmap(env.step, (None, None, 0)))
    return step(state, jnp.int32(action), keys)


def within_standard_errors(sample, expected, number=5):
    error = np.abs(sample.mean(0) - expected)
    return (error <= number * sample.std(0) / len(sample) ** 0.5).all()


# Arms.


@pytest.mark.parametrize(
    ("env", "distribution"),
    [
        (GaussianBandit(), stats.norm(1.0, 0.5)),
        (GaussianBandit(mean_loc=-3.0, mean_scale=2.0), stats.norm(-3.0, 2.0)),
        (BernoulliBandit(), stats.uniform(0.0, 1.0)),
    ],
    ids=["published", "another normal", "uniform"],
)
def test_means_are_drawn_from_their_distribution(env, distribution):
    means = drawn_means(env)
    assert means.shape == (NUM_SAMPLES, 5)
    for arm in means.T:
        assert stats.kstest(arm, distribution.cdf).pvalue > LEAST_P
    # Independent of one another: 5 standard errors of a correlation.
    correlations = np.corrcoef(means.T)[~np.eye(5, dtype=bool)]
    assert np.abs(correlations).max() < 5 / NUM_SAMPLES**0.5


@pytest.mark.parametrize("kind", [GaussianBandit, BernoulliBandit])
def test_given_means_are_taken_as_they_are(kind, key):
    for means in (MEANS, jnp.asarray(MEANS), list(MEANS), tuple(MEANS)):
        state, obs = kind(num_arms=3, means=means).reset(key)
        np.testing.assert_array_equal(state.means, MEANS.astype(np.float32))
        assert obs == 0
    state, _ = kind(num_arms=2, means=[0, 1]).reset(key)
    np.testing.assert_array_equal(state.means, [0.0, 1.0])
    assert state.means.dtype == np.float32


# Rewards.


@pytest.mark.parametrize("arm", range(3))
def test_gaussian_rewards_are_normal_about_the_arms_mean(arm):
    env = GaussianBandit(num_arms=3, means=MEANS, noise_scale=0.3)
    _, time_step = pulls(env, BanditState(jnp.asarray(MEANS, jnp.float32)), arm)
    distribution = stats.norm(MEANS[arm], 0.3)
    assert stats.kstest(time_step.reward, distribution.cdf).pvalue > LEAST_P
    # The same test refuses a mean or a deviation that is slightly off.
    wrong = stats.norm(MEANS[arm] + 0.01, 0.3), stats.norm(MEANS[arm], 0.32)
    for other in wrong:
        assert stats.kstest(time_step.reward, other.cdf).pvalue < LEAST_P


@pytest.mark.parametrize("arm", range(3))
def test_bernoulli_rewards_are_0_or_1_with_the_arms_mean(arm):
    env = BernoulliBandit(num_arms=3, means=MEANS)
    _, time_step = pulls(env, BanditState(jnp.asarray(MEANS, jnp.float32)), arm)
    wins = int(time_step.reward.sum())
    assert set(np.unique(time_step.reward)) == {0.0, 1.0}
    assert stats.binomtest(wins, NUM_SAMPLES, MEANS[arm]).pvalue > LEAST_P
    assert stats.binomtest(wins, NUM_SAMPLES, MEANS[arm] + 0.015).pvalue < LEAST_P


def test_certain_arms_are_certain():
    env = BernoulliBandit(num_arms=2, means=[0.0, 1.0])
    state, _ = env.reset(jax.random.key(0))
    for arm in (0, 1):
        assert (pulls(env, state, arm)[1].reward == arm).all()
    env = GaussianBandit(num_arms=2, means=[0.25, 4.0], noise_scale=0.0)
    state, _ = env.reset(jax.random.key(0))
    for arm, mean in enumerate((0.25, 4.0)):
        assert (pulls(env, state, arm)[1].reward == mean).all()


# Drift.


def test_without_drift_the_arms_stay(key):
    for env in (GaussianBandit(), BernoulliBandit()):
        state, _ = env.reset(key)
        after, _ = env.step(state, 0, key)
        np.testing.assert_array_equal(after.means, state.means)


@pytest.mark.parametrize("kind", [GaussianBandit, BernoulliBandit])
def test_every_arm_takes_a_normal_step(kind):
    env = kind(num_arms=3, means=[0.4, 0.5, 0.6], drift_scale=0.05)
    state, _ = env.reset(jax.random.key(0))
    after, time_step = pulls(env, state, 1)
    steps = np.asarray(after.means - state.means)
    for arm in steps.T:
        assert stats.kstest(arm, stats.norm(0, 0.05).cdf).pvalue > LEAST_P
    words = np.column_stack([steps, time_step.reward])
    # The arms' steps and the reward's noise are independent.
    correlations = np.corrcoef(words.T)[~np.eye(4, dtype=bool)]
    assert np.abs(correlations).max() < 5 / NUM_SAMPLES**0.5


def test_drift_adds_up_to_a_random_walk(key):
    env = GaussianBandit(drift_scale=0.2, means=jnp.arange(5.0))
    num_steps = 25

    def walk(key):
        state, _ = env.reset(key)

        def step(state, key):
            return env.step(state, jnp.int32(0), key)[0], None

        return jax.lax.scan(step, state, jax.random.split(key, num_steps))[0].means

    means = np.asarray(jax.jit(jax.vmap(walk))(jax.random.split(key, NUM_SAMPLES)))
    assert within_standard_errors(means, np.arange(5.0))
    # Var = n d²; the standard error of a normal sample's deviation is σ/√(2N).
    deviation = 0.2 * num_steps**0.5
    errors = np.abs(means.std(0) - deviation)
    assert (errors <= 5 * deviation / (2 * NUM_SAMPLES) ** 0.5).all()


def test_a_pull_is_paid_by_the_means_before_their_step(key):
    env = GaussianBandit(noise_scale=0.0, drift_scale=1.0)
    state, _ = env.reset(key)
    after, time_step = env.step(state, 2, key)
    assert time_step.reward == state.means[2]
    assert (after.means != state.means).all()


def test_bernoulli_means_are_clipped(key):
    env = BernoulliBandit(num_arms=2, means=[0.0, 1.0], drift_scale=0.5)
    state, _ = env.reset(key)
    after = np.asarray(pulls(env, state, 0)[0].means)
    assert after.min() == 0 and after.max() == 1
    # Half of the steps go beyond the bound.
    for arm, bound in enumerate((0, 1)):
        stopped = int((after[:, arm] == bound).sum())
        assert stats.binomtest(stopped, NUM_SAMPLES, 0.5).pvalue > LEAST_P


# The contract.


@every_bandit
def test_no_episode_ends(env, key):
    assert (env.observation_space.n, env.action_space.n) == (1, env.num_arms)

    def step(state, key):
        action = jax.random.randint(key, (), 0, env.num_arms)
        return env.step(state, action, key)

    state, _ = env.reset(key)
    _, time_steps = jax.lax.scan(step, state, jax.random.split(key, 2000))
    assert not (time_steps.terminated | time_steps.truncated).any()
    np.testing.assert_array_equal(time_steps.obs, np.zeros(2000))
    assert len(np.unique(time_steps.reward)) > 1


@every_bandit
def test_a_step_is_advance_with_its_draw(env, key):
    state, _ = env.reset(key)
    noise = env.draw((), key)
    jax.tree.map(
        np.testing.assert_array_equal,
        env.step(state, 1, key),
        env.advance(state, 1, noise),
    )
    # Many steps' words have the shapes that one step's have, and differ.
    many = env.draw((7, 2), key)
    for leaf, one in zip(jax.tree.leaves(many), jax.tree.leaves(noise), strict=True):
        assert leaf.shape == (7, 2, *one.shape)
        assert len(np.unique(leaf)) == leaf.size


def test_words_drawn_at_once_give_the_same_rewards_in_distribution():
    env = GaussianBandit(num_arms=3, means=MEANS)
    state, _ = env.reset(jax.random.key(0))
    noise = env.draw((NUM_SAMPLES,), jax.random.key(3))
    advance = jax.vmap(env.advance, (None, None, 0))
    rewards = advance(state, jnp.int32(2), noise)[1].reward
    assert stats.kstest(rewards, stats.norm(0.9, 0.3).cdf).pvalue > LEAST_P


def test_fields_are_leaves(key):
    def pull(mean_loc, mean_scale, noise_scale, drift_scale):
        env = GaussianBandit(
            mean_loc=mean_loc,
            mean_scale=mean_scale,
            noise_scale=noise_scale,
            drift_scale=drift_scale,
        )
        state, time_step = env.step(env.reset(key)[0], jnp.int32(1), key)
        return state.means, time_step.reward

    settings = jnp.array([[0.0, 1.0, 0.5, 0.2], [2.0, 0.5, 0.0, 1.0]])
    means, rewards = jax.jit(jax.vmap(pull))(*settings.T)
    for i, setting in enumerate(settings):
        lone = pull(*map(float, setting))
        np.testing.assert_allclose(means[i], lone[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(rewards[i], lone[1], rtol=1e-5, atol=1e-6)
    for position in range(4):
        changed = settings[0].at[position].add(0.3)
        different = [
            not np.allclose(a, b)
            for a, b in zip(pull(*changed), pull(*settings[0]), strict=True)
        ]
        assert any(different)


@pytest.mark.parametrize("kind", [GaussianBandit, BernoulliBandit])
def test_means_are_leaves(kind, key):
    batch = jnp.stack([jnp.asarray(MEANS), jnp.asarray(MEANS[::-1])])
    envs = kind(num_arms=3, means=batch)
    axes = jax.tree.map(lambda leaf: 0 if np.ndim(leaf) else None, envs)
    by_env = jax.vmap(lambda env: env.reset(key)[0].means, (axes,))(envs)
    by_means = jax.vmap(lambda m: kind(num_arms=3, means=m).reset(key)[0].means)(batch)
    np.testing.assert_array_equal(by_env, batch)
    np.testing.assert_array_equal(by_means, batch)


@every_bandit
def test_x64_gives_doubles(env, x64):
    state, obs = env.reset(jax.random.key(0))
    after, time_step = env.step(state, 0, jax.random.key(1))
    assert {state.means.dtype, after.means.dtype, time_step.reward.dtype} == {
        np.dtype(np.float64)
    }
    assert obs.dtype == time_step.obs.dtype == np.int32


@pytest.mark.parametrize("name", ["means", "mean_loc", "mean_scale", "noise_scale"])
def test_of_a_single_traced_setting_too_nothing_is_known(name):
    known = []

    def ask(value):
        known.append(GaussianBandit(**{name: value}).pays_unit_rewards)

    jax.eval_shape(ask, jnp.full(5 if name == "means" else (), 9.0))
    assert known == [True]


def test_unit_rewards_stay_below_1_and_do_not_drift():
    inside = {"num_arms": 2, "means": [0.3, 0.7], "noise_scale": 0.05}
    assert GaussianBandit(**inside).pays_unit_rewards
    for change in ({"means": [0.3, 0.8]}, {"means": [0.2, 0.7]}, {"drift_scale": 0.0}):
        assert not GaussianBandit(**{**inside, **change}).pays_unit_rewards


def test_make_knows_both():
    assert rljax.make("GaussianBandit-5", noise_scale=1) == GaussianBandit(
        noise_scale=1.0
    )
    assert rljax.make("BernoulliBandit-5") == BernoulliBandit()
    with pytest.raises(TypeError, match="no parameter 'num_arms'"):
        rljax.make("GaussianBandit-5", num_arms=3)


# What is refused.


@pytest.mark.parametrize("kind", [GaussianBandit, BernoulliBandit])
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_arms": 0}, ValueError, "num_arms must be at least 1"),
        ({"num_arms": 2.0}, TypeError, "num_arms must be an integer"),
        ({"drift_scale": -0.1}, ValueError, "drift_scale must be"),
        ({"means": [0.1, 0.2]}, ValueError, r"num_arms = 5, got shape \(2,\)"),
        ({"means": 0.5}, ValueError, r"num_arms = 5, got shape \(\)"),
        ({"means": [0.1, 0.2, 0.3, 0.4, float("nan")]}, ValueError, "means must be"),
        ({"means": "12345"}, TypeError, "means must be"),
    ],
)
def test_bad_arms_are_refused(kind, settings, error, message):
    with pytest.raises(error, match=f"{kind.__name__}.*{message}"):
        kind(**settings)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GaussianBandit(mean_scale=-1.0), "mean_scale must be .* at least 0"),
        (lambda: GaussianBandit(noise_scale=-1.0), "noise_scale must be"),
        (lambda: GaussianBandit(mean_loc=float("inf")), "mean_loc must be finite"),
        (
            lambda: BernoulliBandit(num_arms=2, means=[0.5, 1.5]),
            r"BernoulliBandit.means must be in \[0, 1\]",
        ),
        (
            lambda: BernoulliBandit(num_arms=2, means=[-0.1, 0.5]),
            "BernoulliBandit.means",
        ),
    ],
)
def test_values_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("action", [-1, 5])
@pytest.mark.parametrize("env", BANDITS[::2], ids=["gaussian", "bernoulli"])
def test_an_arm_that_is_not_there_is_refused(env, action, key):
    state, _ = env.reset(key)
    with pytest.raises(ValueError, match="the bandit's action must lie in Discrete"):
        env.step(state, action, key)


def test_values_on_the_edge_are_taken():
    still = GaussianBandit(num_arms=1, mean_scale=0, noise_scale=0, drift_scale=0)
    assert (still.num_arms, still.drift_scale) == (1, 0)
    env = BernoulliBandit(num_arms=2, drift_scale=0, means=[0.0, 1.0])
    state, _ = env.reset(jax.random.key(0))
    # The least number that is ever drawn: an arm of mean 0 doesn't pay for it either.
    for arm, reward in ((0, 0), (1, 1)):
        noise = (jnp.float32(0), jnp.zeros(2))
        assert env.advance(state, jnp.int32(arm), noise)[1].reward == reward
