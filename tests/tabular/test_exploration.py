"""Exploration rules against scalar loops, their own probabilities, and extremes."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import rljax
from rljax import rollout
from rljax.tabular import bandits
from rljax.tabular import exploration as ex
from rljax.tabular.exploration import thompson
from tests.conftest import enable_x64
from tests.oracles import exploration as oracle

NUM_PULLS = 1000
# Close to one another for their noise, so that no rule settles on one arm at once.
GAUSSIAN = rljax.GaussianBandit(means=[1.0, 1.3, 0.7, 1.1, 0.2], noise_scale=1.0)
# Rewards in [0, 1] that are not 0 or 1: equal counts of wins would tie, and then the
# last bit of Q decides.
UNIT = rljax.GaussianBandit(means=[0.4, 0.6, 0.5, 0.3, 0.55], noise_scale=0.05)
BERNOULLI = rljax.BernoulliBandit(means=[0.4, 0.6, 0.5, 0.1, 0.55])
RULES = [
    ex.EpsilonGreedy(0.1),
    ex.Softmax(0.5),
    ex.UCB(),
    ex.UCB1(),
    ex.KLUCB(),
    ex.KLUCB(noise_scale=1.0, c=3.0),
    ex.ThompsonGaussian(),
    ex.ThompsonBernoulli(),
]
ALL = pytest.mark.parametrize("rule", RULES, ids=str)
DETERMINISTIC = pytest.mark.parametrize("rule", RULES[2:6], ids=str)
NOW = jnp.zeros((), jnp.int32)
PRIOR = {"prior_mean": 0.5, "prior_scale": 2.0, "noise_scale": 1.0}


def bandit_agent(rule, **settings):
    settings = {"step_size": None, "discount": 0.0} | settings
    return rljax.QLearning(exploration=rule, **settings)


@jax.jit
def _played(agent, env, key):
    key_start, key = jax.random.split(key)
    start = jax.tree.map(lambda x: x[None], rollout.start(env, key_start))
    state = agent.init(key_start, env)
    # The very words that `interact` draws from this key.
    noise = rollout._draw(agent, state, env, key, NUM_PULLS)
    done = rollout.interact(
        agent,
        state,
        env,
        start,
        key,
        key,
        plan=agent.rollout_plan._replace(rollout_length=NUM_PULLS),
        record=lambda _, transition: (transition.action, transition.reward),
    )
    records = jax.tree.map(lambda x: x[:, 0], done.records)
    return done.agent_state, *records, noise.act, noise.step[0]


def played(agent, env):
    """The agent's final state, actions, rewards, words, and `pay` for the oracle."""
    with enable_x64():
        state, actions, rewards, words, pay_words = _played(
            agent, env, jax.random.key(5)
        )
        words = jax.tree.map(np.asarray, words)
        pay_words = np.asarray(pay_words)

    def pay(action, i):
        return env.means[action] + env.noise_scale * pay_words[i]

    return state, np.asarray(actions), np.asarray(rewards), words, pay


def assert_plays_as(agent, env, choose):
    """`choose(q, counts, word, i)` of the oracle, pull by pull."""
    state, actions, rewards, words, pay = played(agent, env)
    assert np.bincount(actions, minlength=5).min() > 0
    assert np.bincount(actions).max() < NUM_PULLS - 20
    expected_actions, expected_rewards, q = oracle.play_bandit(
        lambda q, counts, i: choose(q, counts, words[i] if len(words) else None, i),
        pay,
        5,
        NUM_PULLS,
    )
    np.testing.assert_array_equal(actions, expected_actions)
    np.testing.assert_allclose(rewards, expected_rewards, rtol=1e-12)
    np.testing.assert_allclose(state.q_values[0], q, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("rule", "env", "choose"),
    [
        (
            ex.EpsilonGreedy(0.1),
            GAUSSIAN,
            lambda q, n, u, i: oracle.epsilon_greedy(q, 0.1, u),
        ),
        (
            ex.EpsilonGreedy(0.1, "first"),
            GAUSSIAN,
            lambda q, n, u, i: oracle.epsilon_greedy(q, 0.1, u, "first"),
        ),
        (ex.Softmax(0.5), GAUSSIAN, lambda q, n, u, i: oracle.softmax(q, 0.5, u)),
        (ex.UCB(2.0), GAUSSIAN, lambda q, n, u, i: oracle.ucb(q, n, 2.0)),
        (ex.UCB1(), UNIT, lambda q, n, u, i: oracle.ucb1(q, n, 1.0)),
        (ex.UCB1(3.0), GAUSSIAN, lambda q, n, u, i: oracle.ucb1(q, n, 3.0)),
        (ex.KLUCB(), UNIT, lambda q, n, u, i: oracle.kl_ucb(q, n, 0.0)),
        (ex.KLUCB(c=3.0), UNIT, lambda q, n, u, i: oracle.kl_ucb(q, n, 3.0)),
        (
            ex.KLUCB(noise_scale=1.0, c=3.0),
            GAUSSIAN,
            lambda q, n, u, i: oracle.kl_ucb(q, n, 3.0, 1.0),
        ),
        (
            ex.ThompsonGaussian(**PRIOR),
            GAUSSIAN,
            lambda q, n, z, i: oracle.thompson_gaussian(q, n, z, **PRIOR),
        ),
    ],
    ids=lambda x: str(x) if isinstance(x, tuple(map(type, RULES))) else "",
)
def test_a_thousand_pulls_equal_the_scalar_loop(rule, env, choose):
    assert_plays_as(bandit_agent(rule), env, choose)


FIVES = rljax.GaussianBandit(num_arms=3, means=[5.0, 7.0, 6.0])
FOR_UNIT_REWARDS = pytest.mark.parametrize(
    "rule", [ex.KLUCB(), ex.ThompsonBernoulli()], ids=str
)


@FOR_UNIT_REWARDS
def test_rules_for_rewards_in_the_unit_interval_refuse_others(rule, key):
    """On means of 5, 7 and 6, KL-UCB pulled the worst arm for ever."""
    agent = bandit_agent(rule, rollout_length=50)
    for env in (FIVES, rljax.GaussianBandit(), rljax.GaussianBandit(drift_scale=0.1)):
        with pytest.raises(ValueError, match=r"is for rewards in \[0, 1\], which thos"):
            bandits.play_bandit(agent, env, key, num_pulls=9)
    # In training nothing is known of an environment but what was learned from it.
    state, metrics = rljax.train(agent, FIVES, key, num_updates=1)
    assert np.isnan(state.agent_state.q_values).any()
    assert np.isnan(metrics.agent["abs_td_error"]).all()
    state, _ = rljax.train(agent, BERNOULLI, key, num_updates=1)
    assert ((state.agent_state.q_values >= 0) & (state.agent_state.q_values <= 1)).all()


@pytest.mark.slow
def test_a_target_s_rule_refuses_rewards_outside_of_the_unit_interval(key):
    agent = rljax.ExpectedSarsa(
        target=ex.KLUCB(), discount=0.0, step_size=None, rollout_length=20
    )
    with pytest.raises(ValueError, match=r"KLUCB.* is for rewards in \[0, 1\], which"):
        bandits.play_bandit(agent, FIVES, key, num_pulls=9)
    state, _ = rljax.train(agent, FIVES, key, num_updates=1)
    assert np.isnan(state.agent_state.q_values).any()
    state, _ = rljax.train(agent, BERNOULLI, key, num_updates=1)
    assert np.isfinite(state.agent_state.q_values).all()


def test_what_bandits_know_of_their_rewards():
    assert BERNOULLI.pays_unit_rewards and UNIT.pays_unit_rewards
    wide = rljax.GaussianBandit(mean_loc=0.5, mean_scale=0.06, noise_scale=0.06)
    assert wide.pays_unit_rewards  # 5 · sqrt(0.06² + 0.06²) = 0.42
    assert not rljax.GaussianBandit(
        mean_loc=0.5, mean_scale=0.08, noise_scale=0.08
    ).pays_unit_rewards
    assert not rljax.GaussianBandit(
        num_arms=2, means=[0.1, 0.5], noise_scale=0.05
    ).pays_unit_rewards
    known = []
    jax.eval_shape(lambda env: known.append(env.pays_unit_rewards), FIVES)
    assert known == [True]  # of what is traced, nothing is


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_gradient_bandit_equals_the_scalar_loop(temperature):
    agent = rljax.GradientBandit(
        step_size=0.1, discount=0.0, exploration=ex.Softmax(temperature)
    )
    state, actions, rewards, words, pay = played(agent, GAUSSIAN)
    expected_actions, expected_rewards, preferences = oracle.play_gradient_bandit(
        pay, words, 5, 0.1, temperature
    )
    np.testing.assert_array_equal(actions, expected_actions)
    np.testing.assert_allclose(rewards, expected_rewards, rtol=1e-12)
    np.testing.assert_allclose(state.q_values[0], preferences, rtol=1e-9, atol=1e-12)


def test_gradient_bandit_update_is_equation_2_12(x64):
    preferences = np.array([0.3, -1.0, 2.0])
    out = ex.gradient_bandit_update(preferences, 1, 2.0, 0.5, 0.1)
    pi = oracle.softmax_probabilities(preferences, 1.0)
    expected = preferences + 0.1 * 1.5 * (np.array([0, 1, 0]) - pi)
    np.testing.assert_allclose(out, expected, rtol=1e-12)


def test_gradient_bandit_update_ascends_the_expected_reward(x64):
    # E over actions of the update is α times the gradient of Σ π(a) μ(a), for any
    # baseline.
    preferences, means = jnp.array([0.3, -1.0, 2.0]), jnp.array([1.0, 3.0, -2.0])
    gradient = jax.grad(lambda h: jnp.sum(jax.nn.softmax(h) * means))(preferences)
    moved = sum(
        float(p)
        * (ex.gradient_bandit_update(preferences, a, means[a], 7.0, 0.1) - preferences)
        for a, p in enumerate(jax.nn.softmax(preferences))
    )
    np.testing.assert_allclose(moved, 0.1 * gradient, rtol=1e-10)


def test_thompson_bernoulli_draws_from_the_posterior_of_its_counts(x64, key):
    rule = ex.ThompsonBernoulli(2.0, 3.0)
    q, counts = jnp.array([0.25, 0.5, 0.0, 1.0]), jnp.array([8, 2, 0, 3])
    wins, losses = oracle.bernoulli_posterior(q.tolist(), counts.tolist(), 2.0, 3.0)
    assert (wins, losses) == ([4, 3, 2, 5], [9, 4, 3, 3])
    for word in rule.draw(4, (50,), key):
        drawn = jax.random.beta(word, jnp.array(wins), jnp.array(losses))
        assert rule.select(q, counts, NOW, word) == jnp.argmax(drawn)


@pytest.mark.parametrize(
    ("function", "rule", "names"),
    [
        (ex.ucb1, ex.UCB1(), {"scale"}),
        (ex.kl_ucb, ex.KLUCB(), {"c", "noise_scale"}),
        (ex.thompson_gaussian, ex.ThompsonGaussian(), set()),
        (ex.thompson_bernoulli, ex.ThompsonBernoulli(), {"prior_wins", "prior_losses"}),
    ],
)
def test_a_function_s_defaults_are_those_of_its_rule(function, rule, names):
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }
    assert {*defaults} >= names
    assert defaults == {name: getattr(rule, name) for name in defaults}


@pytest.mark.parametrize(
    ("rule", "function"),
    [
        (ex.EpsilonGreedy(0.5), lambda q, n, k: ex.epsilon_greedy(q, 0.5, k)),
        (ex.Softmax(0.7), lambda q, n, k: ex.softmax(q, 0.7, k)),
        (
            ex.ThompsonGaussian(**PRIOR),
            lambda q, n, k: ex.thompson_gaussian(q, n, k, **PRIOR),
        ),
        (
            ex.ThompsonBernoulli(2.0, 3.0),
            lambda q, n, k: ex.thompson_bernoulli(
                q, n, k, prior_wins=2.0, prior_losses=3.0
            ),
        ),
        (ex.UCB(0.3), lambda q, n, k: ex.ucb(q, n, n.sum(), 0.3)),
        (ex.UCB1(0.3), lambda q, n, k: ex.ucb1(q, n, n.sum(), 0.3)),
        (ex.KLUCB(c=1.0), lambda q, n, k: ex.kl_ucb(q, n, n.sum(), 1.0)),
        (
            ex.KLUCB(noise_scale=0.2),
            lambda q, n, k: ex.kl_ucb(q, n, n.sum(), noise_scale=0.2),
        ),
    ],
    ids=lambda x: str(x) if isinstance(x, tuple(map(type, RULES))) else "",
)
def test_the_function_is_the_rule_on_the_word_of_its_key(rule, function):
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.uniform(size=(200, 4)), jnp.float32)
    counts = jnp.asarray(rng.integers(1, 9, size=(200, 4)))
    keys = jax.random.split(jax.random.key(1), 200)
    by_rule = jax.vmap(lambda q, n, k: rule.select(q, n, NOW, rule.draw(4, (), k)))(
        q, counts, keys
    )
    by_function = jax.vmap(function)(q, counts, keys)
    np.testing.assert_array_equal(by_function, by_rule)
    assert by_function.dtype == jnp.int32
    assert len(np.unique(by_function)) == 4


@jax.jit
def _frequencies(rule, q, counts):
    words = rule.draw(len(q), (200_000,), jax.random.key(2))
    actions = jax.vmap(lambda word: rule.select(q, counts, NOW, word))(words)
    return jnp.bincount(actions, length=len(q)), rule.probabilities(q, counts, NOW)


def frequencies(rule, q, counts):
    """How often each action was selected, and `probabilities`, in x64."""
    with enable_x64():
        return map(np.asarray, _frequencies(rule, jnp.array(q), jnp.array(counts)))


Q = (0.2, 0.9, 0.9, -0.4)
COUNTS = (3, 5, 1, 0)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (ex.EpsilonGreedy(0.3), oracle.epsilon_greedy_probabilities(Q, 0.3)),
        (
            ex.EpsilonGreedy(0.3, "first"),
            oracle.epsilon_greedy_probabilities(Q, 0.3, "first"),
        ),
        (ex.EpsilonGreedy(1.0), np.full(4, 0.25)),
        (ex.Softmax(0.5), oracle.softmax_probabilities(Q, 0.5)),
        (ex.Softmax(5.0), oracle.softmax_probabilities(Q, 5.0)),
    ],
    ids=str,
)
def test_actions_are_as_frequent_as_their_probabilities(rule, expected):
    observed, probabilities = frequencies(rule, Q, COUNTS)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12)
    assert stats.chisquare(observed, expected * observed.sum()).pvalue > 1e-3


CASES = [
    (Q, COUNTS),
    ((0.0, 0.0, 0.0, 0.0), (0, 0, 0, 0)),
    ((0.5, 0.6, 0.55, 0.58), (200, 300, 900, 500)),
    ((0.99, 0.995, 1.0, 0.9), (5000, 5000, 600, 10)),
    ((0.3, 0.3, 0.1, 0.2), (1, 100_000, 100, 10_000)),
]


def posterior_draws(rule, case, num_draws=1_000_000):
    rng = np.random.default_rng(3)
    q, counts = case
    if isinstance(rule, ex.ThompsonGaussian):
        means, scales = oracle.gaussian_posterior(
            q, counts, rule.prior_mean, rule.prior_scale, rule.noise_scale
        )
        return rng.normal(means, scales, (num_draws, len(q)))
    wins, losses = oracle.bernoulli_posterior(
        np.clip(q, 0, 1), counts, rule.prior_wins, rule.prior_losses
    )
    return rng.beta(wins, losses, (num_draws, len(q)))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    "rule",
    [
        ex.ThompsonGaussian(),
        ex.ThompsonGaussian(**PRIOR | {"noise_scale": 0.1}),
        ex.ThompsonBernoulli(),
        ex.ThompsonBernoulli(2.0, 0.7),
    ],
    ids=str,
)
def test_thompson_sampling_equals_a_monte_carlo_of_the_posterior(rule, case):
    observed, probabilities = frequencies(rule, *case)
    samples = oracle.win_frequencies(posterior_draws(rule, case))
    # The documented 1e-3 of the quadrature, and 4 standard errors of the sampling.
    error = 4 * np.sqrt(samples * (1 - samples) / 1e6) + 1e-5
    assert (np.abs(probabilities - samples) < 1e-3 + error).all()
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-12)
    seen = (observed > 0) | (samples > 0)
    table = np.stack([observed, samples * 1_000_000])[:, seen]
    if seen.sum() > 1:
        assert stats.chi2_contingency(table).pvalue > 1e-3


@DETERMINISTIC
@pytest.mark.parametrize("num_actions", [1, 2, 5])
def test_untried_actions_go_first_in_order(rule, num_actions):
    select = jax.jit(lambda q, counts: rule.select(q, counts, NOW, ()))
    q, counts = np.zeros(num_actions), np.zeros(num_actions, int)
    for action in range(num_actions):
        assert select(q, counts) == action
        q[action], counts[action] = 1.0, 1 + action


@DETERMINISTIC
def test_an_untried_action_beats_any_estimate(rule):
    q, counts = jnp.array([1e30, 1.0, 0.0, 1.0]), jnp.array([1, 1000, 0, 1])
    assert rule.select(q, counts, NOW, ()) == 2
    np.testing.assert_array_equal(rule.probabilities(q, counts, NOW), [0, 0, 1, 0])


@DETERMINISTIC
def test_no_nan_arises_where_nothing_was_tried(rule):
    # Not even where it counts for nothing: who looks for a NaN would find that one.
    with jax.debug_nans(True):
        for counts in ([0, 0, 0], [1, 0, 0], [3, 0, 2]):
            for value in (0.0, 0.5, 1.0):
                q_values = jnp.full(3, value)
                action = rule.select(q_values, jnp.array(counts), NOW, ())
                assert action == counts.index(0)


def test_ucb_follows_the_published_formula_at_every_count():
    rng = np.random.default_rng(0)
    for _ in range(100):
        counts = rng.integers(0, 30, size=4)
        q = rng.normal(size=4)
        c = rng.uniform(0, 3)
        with enable_x64():
            action = ex.ucb(jnp.array(q), jnp.array(counts), counts.sum(), c)
        assert action == oracle.ucb(q.tolist(), counts.tolist(), c)


EXTREMES = [
    ([0.0] * 3, [0] * 3),
    ([0.7] * 3, [4] * 3),
    ([1e38, -1e38, 1e37], [1, 2, 3]),
    ([0.0, -1e38, 1e37], [0, 2, 3]),
    ([1.0, 1.0 + 1e-7, 1.0], [10**6] * 3),
    ([0.5, 0.4, 0.6], [2**30, 2**29, 1]),
]


@pytest.mark.parametrize(
    "rule",
    [
        *RULES,
        ex.EpsilonGreedy(0.0),
        ex.EpsilonGreedy(1.0),
        ex.EpsilonGreedy(1e-45),
        ex.Softmax(1e-45),
        ex.Softmax(1e30),
        ex.UCB(0.0),
        ex.KLUCB(noise_scale=0.0),
        ex.ThompsonGaussian(prior_scale=1e-6),
        ex.ThompsonGaussian(prior_scale=1e10),
    ],
    ids=str,
)
def test_extremes_give_a_valid_action_and_probabilities(rule, key):
    @jax.jit
    def decided(rule, q, counts):
        def one(q, counts):
            actions = jax.vmap(
                lambda key: rule.select(q, counts, NOW, rule.draw(3, (), key))
            )(jax.random.split(key, 50))
            return actions, rule.probabilities(q, counts, NOW)

        return jax.vmap(one)(q, counts)

    q, counts = (jnp.array(x) for x in zip(*EXTREMES, strict=True))
    for case, actions, probabilities in zip(
        EXTREMES, *map(np.asarray, decided(rule, q, counts)), strict=True
    ):
        assert ((actions >= 0) & (actions < 3)).all(), case
        assert (probabilities >= 0).all(), case
        np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)
        # What has no chance is not drawn.
        assert (probabilities[actions] > 0).all(), case


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 0.0])
def test_softmax_without_temperature_is_uniform_over_the_best(temperature):
    # A traced 0 is not refused: it is the limit.
    out = jax.jit(
        lambda tau: ex.Softmax(tau).probabilities(
            jnp.array([1.0, 3.0, 0.0, 3.0]), (), NOW
        )
    )(temperature)
    np.testing.assert_array_equal(out, [0, 0.5, 0, 0.5])
    words = jnp.linspace(0, 1, 100, endpoint=False)
    actions = jax.vmap(
        lambda u: ex.Softmax(jnp.float32(1e-30)).select(jnp.zeros(2), (), NOW, u)
    )(words)
    np.testing.assert_array_equal(actions, words < 0.5)  # the first one comes last


def test_epsilon_0_is_greedy_and_1_is_uniform(key):
    q = jnp.array([0.0, 2.0, 1.0])
    words = jax.random.uniform(key, (30_000,))

    def actions(epsilon):
        rule = ex.EpsilonGreedy(epsilon)
        return jax.vmap(lambda u: rule.select(q, (), NOW, u))(words)

    np.testing.assert_array_equal(actions(0.0), 1)
    assert stats.chisquare(np.bincount(actions(1.0))).pvalue > 1e-3


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.01, 0.1, 0.5, 0.9, 0.99, 1 - 1e-9, 1.0])
def test_the_bernoulli_bound_equals_bisection(p, x64):
    divergences = np.array([0.0, 1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0])
    out = ex.bernoulli_kl_upper_bound(jnp.float64(p), jnp.array(divergences))
    expected = [oracle.bernoulli_kl_upper_bound(p, d) for d in divergences]
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-15)
    # The distance to 1 decides which of two good arms is pulled.
    np.testing.assert_allclose(1 - out, 1 - np.array(expected), rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("p", [0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_the_bernoulli_bound_in_single_precision(p):
    divergences = np.array([0.0, 1e-3, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0])
    out = ex.bernoulli_kl_upper_bound(jnp.float32(p), jnp.array(divergences))
    expected = [oracle.bernoulli_kl_upper_bound(p, d) for d in divergences]
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    assert ((out >= np.float32(p)) & (out <= 1)).all()


@ALL
def test_a_tie_goes_to_the_lowest_action(rule):
    q, counts = jnp.array([0.1, 0.8, 0.8, 0.8]), jnp.array([7, 7, 7, 7])
    if rule.uses_counts and not jax.tree.leaves(rule.draw(4, (), jax.random.key(0))):
        assert rule.select(q, counts, NOW, ()) == 1
    assert ex.greedy(q) == 1
    np.testing.assert_array_equal(ex.greedy(jnp.zeros((2, 3))), [0, 0])


@pytest.mark.parametrize("ties", ["random", "first"])
@pytest.mark.parametrize("num_actions", [1, 2, 3, 4, 7, 33])
def test_a_word_chooses_among_the_best_as_the_scalar_loop_does(num_actions, ties):
    rng = np.random.default_rng(num_actions)
    q = rng.integers(0, 3, (300, num_actions)) / 2  # many ties
    words = rng.uniform(size=300)
    with enable_x64():
        rule = ex.EpsilonGreedy(0.3, ties)
        select = jax.jit(jax.vmap(lambda q, u: rule.select(q, (), NOW, u)))
        actions = np.asarray(select(jnp.asarray(q), jnp.asarray(words)))
    expected = map(lambda q, u: oracle.epsilon_greedy(q, 0.3, u, ties), q, words)
    np.testing.assert_array_equal(actions, [*expected])


def test_a_word_at_the_very_end_takes_the_last_of_the_best():
    last = np.nextafter(np.float32(1), np.float32(0))
    for epsilon in (0.0, 1e-7, 0.1, 0.3, 0.7):
        rule = ex.EpsilonGreedy(epsilon)
        assert rule.select(jnp.array([1.0, 2, 2, 0]), (), NOW, jnp.asarray(last)) == 2


def test_without_a_reward_yet_all_actions_are_tried_alike():
    # What kept Q-learning on FrozenLake in one corner for two million steps.
    q = jnp.zeros((1, 4))
    words = jnp.linspace(0, 1, 1000, endpoint=False)
    for ties, counts in (("random", [250] * 4), ("first", [925, 25, 25, 25])):
        agent = rljax.QLearning(exploration=ex.EpsilonGreedy(0.1, ties))
        actions = jax.vmap(lambda u, a=agent: a.exploration.select(q[0], (), NOW, u))
        found = np.bincount(actions(words), minlength=4)
        np.testing.assert_allclose(found, counts, atol=1)
        state = agent.init(jax.random.key(0), GAUSSIAN)._replace(q_values=q)
        np.testing.assert_allclose(
            agent.behaviour_policy(state)[0], np.array(counts) / 1000, atol=1e-6
        )
        assert agent.greedy_policy(state)[0] == 0  # reports and plans


def test_optimism_tries_every_arm_before_any_twice(key):
    greedy = ex.EpsilonGreedy(0.0)
    agent = bandit_agent(greedy, step_size=0.1, initial_value=5.0)
    actions = bandits.play_bandit(agent, GAUSSIAN, key, num_pulls=200)[1].actions
    assert sorted(actions[:5]) == [0, 1, 2, 3, 4]
    greedy = ex.EpsilonGreedy(0.0, "first")
    agent = bandit_agent(greedy, step_size=0.1, initial_value=5.0)
    actions = bandits.play_bandit(agent, GAUSSIAN, key, num_pulls=200)[1].actions
    np.testing.assert_array_equal(actions[:5], np.arange(5))
    sure = rljax.GaussianBandit(means=[1.0, 2.0, 1.5, 1.8, 1.2], noise_scale=0.0)
    plain = bandits.play_bandit(bandit_agent(greedy), sure, key, num_pulls=200)[1]
    np.testing.assert_array_equal(plain.actions, 0)
    keen = bandits.play_bandit(agent, sure, key, num_pulls=200)[1]
    np.testing.assert_array_equal(keen.actions[-20:], 1)


@pytest.mark.slow
@ALL
def test_one_rule_serves_a_bandit_and_a_gridworld(rule, key):
    rng = np.random.default_rng(0)
    agent = bandit_agent(rule)
    for env in (BERNOULLI, rljax.GridWorld()):
        shape = env.observation_space.n, env.action_space.n
        state = agent.init(key, env)._replace(
            q_values=jnp.asarray(rng.uniform(size=shape), jnp.float32),
            counts=jnp.asarray(rng.integers(1, 20, shape), jnp.int32),
        )

        @jax.jit
        def by_both(state, obs):
            q, counts = state.q_values[obs], state.counts[obs]
            action = rule.select(q, counts, NOW, rule.draw(shape[1], (), key))
            probabilities = rule.probabilities(q, counts, NOW)
            return (agent.act(state, obs, key)[0], action), (
                agent.behaviour_policy(state)[obs],
                probabilities,
            )

        for obs in range(min(3, shape[0])):
            actions, policies = by_both(state, jnp.int32(obs))
            assert actions[0] == actions[1]
            np.testing.assert_allclose(*policies, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "values"),
    [
        (ex.EpsilonGreedy, [0.0, 0.3, 1.0]),
        (ex.Softmax, [0.1, 1.0, 10.0]),
        (ex.UCB, [0.0, 0.1, 2.0]),
        (ex.UCB1, [0.0, 0.1, 2.0]),
        (lambda s: ex.KLUCB(noise_scale=s), [0.01, 1.0, 5.0]),
        (lambda c: ex.KLUCB(c=c), [0.0, 1.0, 3.0]),
        (lambda s: ex.ThompsonGaussian(prior_scale=s), [0.01, 1.0, 5.0]),
        (lambda w: ex.ThompsonBernoulli(prior_wins=w), [0.1, 1.0, 50.0]),
    ],
    ids=["epsilon", "temperature", "c", "scale", "noise", "ln ln", "prior", "wins"],
)
def test_rules_vmap_over_their_parameters(make, values, key):
    q, counts = jnp.array([0.2, 0.9, 0.6]), jnp.array([2, 30, 4])

    def probabilities(value):
        return make(value).probabilities(q, counts, NOW)

    def select(value):
        rule = make(value)
        return rule.select(q, counts, NOW, rule.draw(3, (), key))

    together = jax.vmap(probabilities)(jnp.array(values))
    lone = jax.jit(lambda value: (probabilities(value), select(value)))
    lone = [lone(value) for value in values]
    np.testing.assert_allclose(together, [p for p, _ in lone], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        jax.vmap(select)(jnp.array(values)), [action for _, action in lone]
    )
    batch = make(jnp.array(values))
    axes = jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, batch)
    of_batch = jax.vmap(lambda rule: rule.probabilities(q, counts, NOW), (axes,))
    np.testing.assert_array_equal(of_batch(batch), together)


# Powers of two: every value is exact, however the compiler divides.
FALLING = optax.linear_schedule(1.0, 1 / 128, 512)


def scheduled_values():
    with enable_x64():
        return np.asarray(
            jax.vmap(FALLING)(jnp.arange(NUM_PULLS, dtype=jnp.int32)), float
        )


def test_the_i_th_decision_takes_the_i_th_value_of_a_schedule():
    values = scheduled_values()
    assert_plays_as(
        bandit_agent(ex.EpsilonGreedy(FALLING)),
        GAUSSIAN,
        lambda q, n, u, i: oracle.epsilon_greedy(q, values[i], u),
    )
    assert_plays_as(
        bandit_agent(ex.Softmax(FALLING)),
        GAUSSIAN,
        lambda q, n, u, i: oracle.softmax(q, values[i], u),
    )


def test_the_i_th_update_takes_the_i_th_step_size():
    agent = bandit_agent(ex.EpsilonGreedy(0.5), step_size=FALLING)
    state, actions, rewards, *_ = played(agent, GAUSSIAN)
    q = np.zeros(5)
    for alpha, action, reward in zip(scheduled_values(), actions, rewards, strict=True):
        q[action] += alpha * (reward - q[action])
    np.testing.assert_allclose(state.q_values[0], q, rtol=1e-12)


def test_a_schedule_is_structure_and_a_number_is_a_leaf():
    by_schedule = rljax.QLearning(
        step_size=FALLING, exploration=ex.EpsilonGreedy(FALLING)
    )
    assert all(isinstance(leaf, float) for leaf in jax.tree.leaves(by_schedule))
    by_number = rljax.QLearning()
    assert len(jax.tree.leaves(by_number)) == len(jax.tree.leaves(by_schedule)) + 2
    again = jax.tree.map(lambda x: x, by_schedule)
    assert again.step_size is FALLING
    assert again.exploration.epsilon is FALLING
    other = rljax.QLearning(
        step_size=FALLING,
        exploration=ex.EpsilonGreedy(optax.linear_schedule(1.0, 0.0, 9)),
    )
    assert jax.tree.structure(other) != jax.tree.structure(by_schedule)


@pytest.mark.slow
def test_an_equal_schedule_or_another_float_compiles_nothing(key):
    def play(rule):
        bandits.play_bandit(bandit_agent(rule), BERNOULLI, key, num_pulls=10)

    for first, second in [
        (ex.EpsilonGreedy(FALLING), ex.EpsilonGreedy(FALLING)),
        (ex.Softmax(FALLING), ex.Softmax(FALLING)),
        (ex.EpsilonGreedy(0.1), ex.EpsilonGreedy(1)),
        (ex.Softmax(0.5), ex.Softmax(np.float32(0.7))),
        (ex.UCB(), ex.UCB(0)),
        (ex.UCB1(), ex.UCB1(jnp.float32(3))),
        (ex.KLUCB(noise_scale=1), ex.KLUCB(noise_scale=2.0, c=1)),
        (ex.ThompsonGaussian(), ex.ThompsonGaussian(1, 2, 3)),
        (ex.ThompsonBernoulli(), ex.ThompsonBernoulli(2, 0.5)),
    ]:
        play(first)
        before = bandits._play_bandit._cache_size()
        play(second)
        assert bandits._play_bandit._cache_size() == before


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ex.EpsilonGreedy(-0.1), ValueError, r"epsilon must be in \[0, 1\]"),
        (lambda: ex.EpsilonGreedy(1.1), ValueError, r"epsilon must be in \[0, 1\]"),
        (lambda: ex.EpsilonGreedy(np.nan), ValueError, "EpsilonGreedy.epsilon"),
        (
            lambda: ex.EpsilonGreedy(0.1, "lowest"),
            ValueError,
            "EpsilonGreedy.ties must be one of .*'random'.*'first'.*, got 'lowest'",
        ),
        (lambda: ex.EpsilonGreedy("0.1"), TypeError, "EpsilonGreedy.epsilon"),
        (lambda: ex.EpsilonGreedy(None), TypeError, "EpsilonGreedy.epsilon"),
        (
            lambda: ex.EpsilonGreedy(lambda step: jnp.ones(2)),
            TypeError,
            r"epsilon's schedule must return a scalar, returns shape \(2,\)",
        ),
        (
            lambda: ex.EpsilonGreedy(lambda: 0.1),
            TypeError,
            "a function of the step such as optax.linear_schedule .* failed",
        ),
        (
            lambda: ex.Softmax(lambda step: {}["temperature"]),
            TypeError,
            "Softmax.temperature must be a number or a schedule",
        ),
        (lambda: ex.Softmax(0.0), ValueError, "temperature .* more than 0"),
        (lambda: ex.Softmax(-1), ValueError, "temperature .* more than 0"),
        (lambda: ex.Softmax(np.inf), ValueError, "temperature"),
        (lambda: ex.UCB(-1.0), ValueError, "UCB.c must be finite and at least 0"),
        (lambda: ex.UCB(FALLING), TypeError, "UCB.c must be a real number"),
        (lambda: ex.UCB1(-1.0), ValueError, "UCB1.scale"),
        (lambda: ex.KLUCB(c=-1.0), ValueError, "KLUCB.c"),
        (lambda: ex.KLUCB(noise_scale=-1.0), ValueError, "KLUCB.noise_scale"),
        (lambda: ex.ThompsonGaussian(prior_scale=0), ValueError, "prior_scale"),
        (lambda: ex.ThompsonGaussian(noise_scale=0), ValueError, "noise_scale"),
        (lambda: ex.ThompsonGaussian(prior_mean=np.inf), ValueError, "prior_mean"),
        (lambda: ex.ThompsonBernoulli(prior_wins=0), ValueError, "prior_wins"),
        (lambda: ex.ThompsonBernoulli(1.0, -1.0), ValueError, "prior_losses"),
        (
            lambda: ex.epsilon_greedy(jnp.zeros(2), 2.0, jax.random.key(0)),
            ValueError,
            "epsilon",
        ),
        (
            lambda: ex.softmax(jnp.zeros(2), 0.0, jax.random.key(0)),
            ValueError,
            "temperature",
        ),
        (
            lambda: rljax.QLearning(exploration=0.1),
            TypeError,
            r"QLearning.exploration must be a rule such as .*EpsilonGreedy\(0.1\), got",
        ),
        (
            lambda: rljax.QLearning(exploration=ex.EpsilonGreedy),
            TypeError,
            "QLearning.exploration must be a rule",
        ),
        (
            lambda: rljax.QLearning(exploration=ex.greedy),
            TypeError,
            "QLearning.exploration must be a rule",
        ),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "decide",
    [
        lambda q, n: ex.ucb(q, n, 5, 1.0),
        lambda q, n: ex.ucb1(q, n, 5),
        lambda q, n: ex.kl_ucb(q, n, 5),
        lambda q, n: ex.thompson_gaussian(q, n, jax.random.key(0)),
        lambda q, n: ex.thompson_bernoulli(q, n, jax.random.key(0)),
    ],
)
def test_counts_that_do_not_fit_are_refused_by_name(decide):
    with pytest.raises(ValueError, match=r"q_values \(3,\), counts \(2,\)"):
        decide(jnp.zeros(3), jnp.ones(2))
    with pytest.raises(TypeError, match=r"counts must be real numbers.*, got bool"):
        decide(jnp.zeros(3), jnp.ones(3, bool))
    with pytest.raises(TypeError, match=r"q_values must be real numbers.*, got bool"):
        decide(jnp.zeros(3, bool), jnp.ones(3))


@pytest.mark.parametrize("scale", [0.5, 1e-3])
def test_thompson_s_chances_of_two_normal_posteriors(scale):
    # The difference of the draws is normal: P(the first is larger) = Φ(Δ / sqrt Σ s²).
    rule = ex.ThompsonGaussian(0.0, 1.0, 1.0)
    counts = np.round([1 / scale**2, 4 / scale**2])
    q = np.array([1.0, 1.0 - scale])
    means, scales = oracle.gaussian_posterior(q, counts, 0.0, 1.0, 1.0)
    expected = stats.norm.cdf((means[0] - means[1]) / np.hypot(*scales))
    with enable_x64():
        found = rule.probabilities(jnp.array(q), jnp.array(counts), NOW)
    np.testing.assert_allclose(found, [expected, 1 - expected], atol=1e-4)


@pytest.mark.parametrize("won", [0.0, 1.0])
def test_a_bernoulli_arm_starts_with_the_uniform_prior(won):
    # After one win the density is 2μ: the mean, 2/3, is P(it beats a uniform draw).
    with enable_x64():
        q, counts = jnp.array([won, 0.0]), jnp.array([1, 0])
        found = ex.ThompsonBernoulli().probabilities(q, counts, NOW)
    chance = (1 + won) / 3
    np.testing.assert_allclose(found, [chance, 1 - chance], atol=1e-4)


def test_thompson_s_chances_of_beta_posteriors_narrower_than_a_cell():
    # After ten million pulls they are normal to four digits, and a third of the 2048th
    # part of [0, 1] wide.
    pulls, q = 10**7, np.array([0.5, 0.5001])
    posteriors = stats.beta(1 + pulls * q, 1 + pulls * (1 - q))
    z = np.diff(posteriors.mean()) / np.hypot(*posteriors.std())
    with enable_x64():
        counts = jnp.full(2, pulls)
        found = ex.ThompsonBernoulli().probabilities(jnp.array(q), counts, NOW)
    np.testing.assert_allclose(found[1], stats.norm.cdf(z)[0], atol=1e-3)


@pytest.mark.parametrize("number", [2, 100])
def test_arms_of_equal_posteriors_have_equal_chances_however_many(number):
    # A product over a hundred arms leaves what float32 holds unless it is of chances.
    cdf = np.tile(np.linspace(0, 1, 65, dtype=np.float32), (number, 1))
    found = jax.jit(thompson._chances)(cdf)
    np.testing.assert_allclose(found, np.full(number, 1 / number), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("num_others", [1, 10, 100])
def test_thompson_s_probabilities_by_quadrature(num_others):
    # One narrow posterior among wide ones that nobody has tried.
    rule = ex.ThompsonGaussian(0.0, 1.0, 1.0)
    q = jnp.array([3.0] + [0.0] * num_others)
    counts = jnp.array([10_000] + [0] * num_others)
    x = np.linspace(-8, 8, 400_001)
    draws = 3 * 10_000 / 10_001 + x / np.sqrt(10_001)
    wins = stats.norm.pdf(x) * stats.norm.cdf(draws) ** num_others
    expected = np.trapezoid(wins, x)
    rest = np.full(num_others, (1 - expected) / num_others)
    found = rule.probabilities(q, counts, NOW)
    np.testing.assert_allclose(found, [expected, *rest], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("pulls", [10, 1000, 100_000])
def test_thompson_s_probabilities_of_narrow_beta_posteriors(pulls):
    gap = 2 * np.sqrt(0.5 / pulls)  # two standard deviations of the difference
    means = np.array([0.5 - gap / 2, 0.5 + gap / 2])
    found = ex.ThompsonBernoulli().probabilities(
        jnp.array(means), jnp.full(2, pulls), NOW
    )
    x = np.linspace(0, 1, 2_000_001)
    first, second = (stats.beta(1 + pulls * m, 1 + pulls * (1 - m)) for m in means)
    expected = np.trapezoid(second.pdf(x) * first.cdf(x), x)
    np.testing.assert_allclose(found, [1 - expected, expected], atol=3e-3)


@pytest.mark.parametrize(
    ("p", "divergence"), [(0.5, 1e-6), (0.5, 1e-7), (0.9, 1e-8), (0.01, 1e-8)]
)
def test_the_bernoulli_bound_of_an_arm_pulled_ten_million_times(p, divergence):
    out = ex.bernoulli_kl_upper_bound(jnp.float32(p), jnp.float32(divergence))
    # kl(p, p+Δ) = Δ²/(2 p (1−p)) · (1 + O(Δ/p)), and p itself has 2^-24 to round.
    expected = np.sqrt(2 * divergence * p * (1 - p))
    np.testing.assert_allclose(out - np.float32(p), expected, rtol=2e-3, atol=2**-24)


def test_a_schedule_is_clipped_to_what_a_number_may_be(key):
    # The textbook's c/t is above 1 at first, and no rate of a table may pass 1.
    rule = ex.EpsilonGreedy(lambda step: 5 / (step + 1))
    q = jnp.array([0.0, 1.0, 0.0, 0.0])
    for step, epsilon in ((0, 1.0), (3, 1.0), (9, 0.5)):
        step = jnp.int32(step)
        expected = np.full(4, epsilon / 4) + (1 - epsilon) * np.array([0, 1, 0, 0])
        out = rule.probabilities(q, (), step)
        np.testing.assert_allclose(out, expected, rtol=1e-6)
        u = (jnp.arange(400) + 0.5) / 400
        actions = jax.vmap(lambda u, s=step: rule.select(q, (), s, u))(u)
        np.testing.assert_array_equal(np.bincount(actions), 400 * expected)
    falling = ex.Softmax(lambda step: 1.0 - step)
    probs = falling.probabilities(q, (), jnp.int32(2))
    np.testing.assert_array_equal(probs, [0, 1, 0, 0])


def test_the_gradient_of_softmax_at_a_tie_is_that_of_the_formula():
    q = jnp.array([1.0, 0.5, 1.0])
    rule = ex.Softmax(0.5)
    probs = np.asarray(rule.probabilities(q, (), NOW))
    jacobian = jax.jacobian(lambda q: rule.probabilities(q, (), NOW))(q)
    expected = (np.diag(probs) - np.outer(probs, probs)) / 0.5
    np.testing.assert_allclose(jacobian, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("mean", "gap", "slopes"),
    [
        # kl(0, Δ) = −ln(1 − Δ); by hand, ∂/∂Δ = (1−p)/(1−p−Δ) − p/(p+Δ).
        (0.0, 0.5, (None, 2.0)),
        (0.25, 0.25, (np.log(1 / 3) + 1, 1.0)),
        (1.0, 0.0, (None, None)),
    ],
)
def test_the_divergence_of_two_coins_is_differentiable_at_its_ends(mean, gap, slopes):
    found = jax.grad(ex.bernoulli_kl, (0, 1))(mean, gap)
    assert np.isfinite(found).all()
    for slope, expected in zip(found, slopes, strict=True):
        if expected is not None:
            assert slope == pytest.approx(expected, rel=1e-5)
