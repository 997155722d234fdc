"""The tabular agents against scalar loops, each other, and their published tasks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rljax
from rljax import losses, parallel, rollout, spaces, struct
from rljax.tabular import exploration as ex
from rljax.training import _train
from rljax.types import Transition
from tests.conftest import enable_x64
from tests.oracles import exploration as rules
from tests.oracles import tabular as oracle

# A pit and a goal that are near, sideways slips, and a limit that cuts episodes.
GRID = rljax.TimeLimit(
    rljax.GridWorld(("A..", ".P.", "..G"), slip=0.3, step_reward=-0.1), 7
)
SHAPE = (9, 4)
AGENTS = [
    rljax.QLearning(),
    rljax.Sarsa(),
    rljax.Sarsa(lambda_=0.8),
    rljax.ExpectedSarsa(),
    rljax.DoubleQLearning(),
    pytest.param(rljax.DynaQ(), marks=pytest.mark.slow),
    rljax.GradientBandit(),
]


def named(agent):
    return type(agent).__name__ + ("(λ)" if getattr(agent, "lambda_", None) else "")


ALL = pytest.mark.parametrize("agent", AGENTS, ids=named)
KEYS = jax.random.split(jax.random.key(0), 3)


def short(agent, **settings):
    return dataclasses.replace(agent, **{"rollout_length": 50} | settings)


class RandomPolicy(rljax.Agent):
    """Acts at random, and flips the coin that double Q-learning looks for."""

    init = update = None

    def act(self, state, obs, key):
        key_action, key_coin = jax.random.split(key)
        action = jax.random.randint(key_action, (), 0, 4, jnp.int32)
        return action, {"coin": jax.random.bernoulli(key_coin)}


@functools.cache
def trajectory(num_envs):
    """A random walk of 300 steps in each of `num_envs` environments, in float64."""

    def unroll(key):
        start = rollout.start(GRID, key)
        return rollout.unroll(RandomPolicy(), (), GRID, start, key, length=300)[1]

    with enable_x64():
        keys = jax.random.split(jax.random.key(4), num_envs)
        walk = jax.jit(jax.vmap(unroll, out_axes=1))(keys)
    for flags in (walk.terminated, walk.truncated & ~walk.terminated):
        assert flags.sum() > 5
    return walk


def numpy(tree):
    return jax.tree.map(np.asarray, tree)


def learned(agent, num_envs):
    agent = short(agent, num_envs=num_envs)
    with enable_x64():
        state = agent.init(jax.random.key(0), GRID)
        update = jax.jit(lambda agent, *args: agent.update(*args))
        state, metrics = update(agent, state, trajectory(num_envs), jax.random.key(0))
    return numpy(state), numpy(metrics), numpy(trajectory(num_envs))


def assert_tables(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def policy_of(rule):
    if isinstance(rule, ex.Softmax):
        return lambda q: rules.softmax_probabilities(q, rule.temperature)
    return lambda q: rules.epsilon_greedy_probabilities(q, rule.epsilon, rule.ties)


def by_oracle(agent, walk, table):
    """Changes `table` as the agent ought to; returns the TD errors."""
    settings = (agent.step_size, agent.discount)
    policy = policy_of(agent.exploration)
    if isinstance(agent, rljax.QLearning):
        return oracle.q_learning(table, walk, *settings)
    if isinstance(agent, rljax.ExpectedSarsa):
        if agent.target is not None:
            policy = policy_of(agent.target)
        return oracle.expected_sarsa(table, walk, policy, *settings)
    if isinstance(agent, rljax.Sarsa):
        return oracle.sarsa(table, walk, policy, *settings, agent.lambda_)
    if isinstance(agent, rljax.DoubleQLearning):
        tables = table.reshape(2, *SHAPE)  # a view
        return oracle.double_q_learning(tables, walk.extras["coin"], walk, *settings)
    raise TypeError(agent)


ENVS = pytest.mark.parametrize("num_envs", [1, 3])


# Not None with several environments: Sarsa's steps that still wait are counted there.
@pytest.mark.parametrize(("step_size", "num_envs"), [(0.1, 1), (0.1, 3), (None, 1)])
@pytest.mark.parametrize(
    "agent",
    [
        rljax.QLearning(initial_value=0.5),
        rljax.ExpectedSarsa(exploration=ex.EpsilonGreedy(0.3)),
        rljax.ExpectedSarsa(exploration=ex.Softmax(0.2), discount=0.9),
        rljax.ExpectedSarsa(target=ex.Softmax(0.2)),
        rljax.Sarsa(),
        rljax.Sarsa(exploration=ex.Softmax(0.2), discount=0.9, initial_value=0.5),
        rljax.Sarsa(lambda_=0.8),
        rljax.Sarsa(lambda_=1.0, discount=0.9),
        rljax.DoubleQLearning(),
        rljax.DoubleQLearning(discount=1.0),
    ],
    ids=str,
)
def test_the_table_after_a_trajectory_equals_the_scalar_loop(
    agent, step_size, num_envs
):
    no_means = isinstance(agent, rljax.DoubleQLearning) or getattr(agent, "lambda_", 0)
    if step_size is None and no_means:
        with pytest.raises(ValueError, match="step_size must be a number or a sched"):
            dataclasses.replace(agent, step_size=None)
        return
    agent = dataclasses.replace(agent, step_size=step_size)
    state, metrics, walk = learned(agent, num_envs)
    table = np.full_like(state.q_values, agent.initial_value)
    assert table.dtype == np.float64
    errors = by_oracle(agent, walk, table)
    assert_tables(state.q_values, table)
    assert state.num_steps == 300 * num_envs
    if not isinstance(agent, rljax.Sarsa):  # which may report two errors as one
        expected = np.mean(np.abs(errors))
        np.testing.assert_allclose(metrics["abs_td_error"], expected, rtol=1e-12)


@ENVS
@pytest.mark.parametrize("baseline_step_size", [None, 0.2, 0.0])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_gradient_bandit_on_an_mdp_equals_the_scalar_loop(
    temperature, baseline_step_size, num_envs
):
    agent = rljax.GradientBandit(
        exploration=ex.Softmax(temperature),
        baseline_step_size=baseline_step_size,
        discount=0.9,
    )
    state, _, walk = learned(agent, num_envs)
    preferences, values = np.zeros(SHAPE), np.zeros(9)
    oracle.gradient_bandit(
        preferences,
        values,
        walk,
        policy_of(agent.exploration),
        agent.step_size,
        agent.discount,
        baseline_step_size,
    )
    assert_tables(state.q_values, preferences)
    assert_tables(state.baseline, values)


def test_a_gradient_bandit_without_a_baseline_follows_the_reward_itself(x64):
    # Two arms at H = 0: the first pays 2, so H ← ±0.1 · 2 · (1 − 1/2). With any β > 0
    # the first reward is the baseline, and H stays. β is traced, as vmapped ones are.
    never = jnp.zeros((1, 1), bool)
    zero = jnp.zeros((1, 1), jnp.int32)
    pull = Transition(zero, zero, jnp.full((1, 1), 2.0), never, never, zero, ())
    env = rljax.GaussianBandit(2)

    def learn(beta):
        agent = rljax.GradientBandit(discount=0.0, baseline_step_size=beta)
        state = agent.init(jax.random.key(0), env)
        return agent.update(state, pull, jax.random.key(0))[0]

    state = jax.jit(jax.vmap(learn))(jnp.array([0.0, 0.2]))
    assert_tables(state.q_values[:, 0], [[0.1, -0.1], [0.0, 0.0]])
    assert_tables(state.baseline[:, 0], [0.0, 2.0])


def test_another_temperature_scales_preferences_and_step_size_alike():
    # With H = τH', softmax(H/τ) = softmax(H'), and α on H is α/τ on H'.
    hot = rljax.GradientBandit(exploration=ex.Softmax(0.5), step_size=0.2)
    plain = rljax.GradientBandit(exploration=ex.Softmax(1.0), step_size=0.4)
    assert_tables(learned(hot, 1)[0].q_values, 0.5 * learned(plain, 1)[0].q_values)


@ENVS
def test_expected_sarsa_with_a_greedy_target_is_q_learning(num_envs):
    expected = rljax.ExpectedSarsa(target=ex.EpsilonGreedy(0.0))
    tables = [learned(agent, num_envs)[0] for agent in (expected, rljax.QLearning())]
    assert_tables(tables[0].q_values, tables[1].q_values)
    assert np.abs(tables[0].q_values).max() > 0.1


def test_sarsa_and_expected_sarsa_are_one_where_every_step_is_truncated():
    # Then no next action is known, and both take the policy's mean.
    always, never = jnp.ones((300, 1), bool), jnp.zeros((300, 1), bool)
    walk = trajectory(1)._replace(terminated=never, truncated=always)
    with enable_x64():
        tables = [
            agent.update(agent.init(KEYS[0], GRID), walk, KEYS[0])[0].q_values
            for agent in (rljax.Sarsa(), rljax.ExpectedSarsa())
        ]
        tables = numpy(tables)
    assert_tables(*tables)
    assert np.abs(tables[0]).max() > 0.1


@pytest.mark.parametrize(
    "agent",
    [rljax.QLearning(), rljax.ExpectedSarsa(), rljax.Sarsa()],
    ids=named,
)
def test_without_a_step_size_a_bandits_table_holds_sample_means(agent):
    agent = dataclasses.replace(
        agent, step_size=None, discount=0.0, exploration=ex.EpsilonGreedy(0.2)
    )
    env = rljax.GaussianBandit(means=[0.0, 1.0, 2.0, 3.0, 4.0])
    with enable_x64():
        state, pulls = rljax.bandits.play_bandit(
            agent, env, jax.random.key(0), num_pulls=400
        )
    # Sarsa learns from a pull when the next one is known.
    last = 399 if isinstance(agent, rljax.Sarsa) else 400
    actions, rewards = (np.asarray(x)[:last] for x in (pulls.actions, pulls.rewards))
    means = [rewards[actions == a].mean() for a in range(5)]
    np.testing.assert_allclose(state.q_values[0], means, rtol=1e-12)


def test_the_td_error_of_q_learning_is_that_of_the_losses():
    agent = short(rljax.QLearning())
    with enable_x64():
        walk = jax.tree.map(lambda x: x[:, 0], trajectory(1))
        state = agent.init(KEYS[0], GRID)._replace(
            q_values=jnp.asarray(np.random.default_rng(0).normal(size=SHAPE))
        )
        expected = losses.td_errors(
            state.q_values[walk.obs],
            walk.action,
            walk.reward,
            state.q_values[walk.next_obs],
            walk.terminated,
            agent.discount,
        )

        def error(transition):
            batch = jax.tree.map(lambda x: x[None, None], transition)
            after, metrics = agent.update(state, batch, KEYS[0])
            return metrics["abs_td_error"], jnp.sum(after.q_values - state.q_values)

        sizes, moves = numpy(jax.jit(jax.vmap(error))(walk))
        expected = np.asarray(expected)
    np.testing.assert_allclose(sizes, np.abs(expected), rtol=1e-12)
    np.testing.assert_allclose(moves, 0.1 * expected, rtol=1e-9, atol=1e-14)


@functools.cache
def online(agent, num_envs):
    """An online run with its words and its transitions, in NumPy."""
    agent = short(agent, num_envs=num_envs)

    @jax.jit
    def run(agent, key):
        keys = jax.random.split(key, num_envs)
        start = jax.vmap(lambda key: rollout.start(GRID, key))(keys)
        state = agent.init(key, GRID)
        # The very words that `interact` draws from this key.
        plan = agent.rollout_plan._replace(rollout_length=300)
        words = rollout._draw_all(agent, state, GRID, key, plan).act
        done = rollout.interact(
            agent,
            state,
            GRID,
            start,
            key,
            key,
            plan=plan,
            record=lambda env_state, transition: (env_state, transition),
        )
        return done.agent_state, done.metrics, words, done.records

    with enable_x64():
        return numpy(run(agent, jax.random.key(9)))


def chosen(agent, table, obs, word):
    if isinstance(agent, rljax.DoubleQLearning):
        row = [(a + b) / 2 for a, b in zip(table[obs], table[9 + obs], strict=True)]
    else:
        row = table[obs]
    rule = agent.exploration
    if isinstance(rule, ex.Softmax):
        return rules.softmax(row, rule.temperature, word)
    return rules.epsilon_greedy(row, rule.epsilon, word, rule.ties)


@ENVS
@pytest.mark.parametrize(
    "agent",
    [
        rljax.QLearning(exploration=ex.EpsilonGreedy(0.3)),
        rljax.QLearning(exploration=ex.EpsilonGreedy(0.3, "first")),
        rljax.QLearning(exploration=ex.Softmax(0.2)),
        rljax.ExpectedSarsa(exploration=ex.EpsilonGreedy(0.3)),
        rljax.Sarsa(exploration=ex.EpsilonGreedy(0.3)),
        rljax.Sarsa(lambda_=0.8, exploration=ex.EpsilonGreedy(0.3)),
        rljax.DoubleQLearning(exploration=ex.EpsilonGreedy(0.3)),
    ],
    ids=str,
)
def test_an_online_run_is_re_executed_action_by_action(agent, num_envs):
    state, _, words, (env_states, walk) = online(agent, num_envs)
    coins = None
    if isinstance(agent, rljax.DoubleQLearning):
        words, coins = words
        np.testing.assert_array_equal(walk.extras["coin"], coins)
    np.testing.assert_array_equal(env_states.env_state, walk.obs)
    # Each step's action is the one of the table learned from all steps before.
    for t in (*range(25), *range(25, 300, 25)):
        table = np.zeros_like(state.q_values)
        by_oracle(agent, jax.tree.map(lambda x: x[:t], walk), table)
        for n in range(num_envs):
            action = chosen(agent, table, walk.obs[t, n], words[t, n])
            assert walk.action[t, n] == action, t
    table = np.zeros_like(state.q_values)
    by_oracle(agent, walk, table)
    assert_tables(state.q_values, table)
    assert walk.terminated.sum() > 5


def test_train_learns_what_the_rollouts_hold():
    # Sarsa's memory, its traces and half an episode go over from update to update.
    agent = rljax.Sarsa(lambda_=0.8, rollout_length=30, num_envs=2)
    with enable_x64():
        state, _ = rljax.train(agent, GRID, jax.random.key(1), num_updates=4)
        whole = rljax.init_train(agent, GRID, jax.random.key(1))

        @jax.jit
        def step(whole):
            *_, records = rollout.interact(
                agent,
                whole.agent_state,
                GRID,
                whole.rollout_state,
                *jax.random.split(whole.key, 4)[1:3],
                record=lambda _, transition: transition,
            )
            return rljax.train_step(agent, GRID, whole)[0], records

        walks = []
        for _ in range(4):
            whole, records = step(whole)
            walks.append(numpy(records))
    walk = jax.tree.map(lambda *x: np.concatenate(x), *walks)
    table = np.zeros(SHAPE)
    by_oracle(agent, walk, table)
    assert_tables(state.agent_state.q_values, table)


@struct.dataclass
class MaximisationBias:
    """Sutton and Barto's example 6.7: state 0 (A) and 1 (B), ten actions in both.

    From A an odd action goes left to B, an even one right to the end, with reward 0:
    half of the actions each way, so ε-greedy's share of left is still ε/2 at the
    optimum. From B every action ends with a reward of N(−0.1, 1).
    """

    mean: float = -0.1

    @property
    def observation_space(self):
        return spaces.Discrete(2)

    @property
    def action_space(self):
        return spaces.Discrete(10)

    def reset(self, key):
        zero = jnp.zeros((), jnp.int32)
        return zero, zero

    def step(self, state, action, key):
        return self.advance(state, action, self.draw((), key))

    def draw(self, shape, key):
        return jax.random.normal(key, shape)

    def advance(self, state, action, noise):
        left = (state == 0) & (action % 2 == 1)
        reward = jnp.where(state == 1, self.mean + noise, 0.0)
        state = left.astype(jnp.int32)
        return state, rljax.TimeStep(state, reward, ~left, jnp.zeros((), bool))


def shares_of_left(agent, num_seeds=2000, num_episodes=300):
    """Each seed's share of episodes that go left, among its first 300."""
    env, length = MaximisationBias(), 2 * num_episodes

    def run(key):
        start = jax.tree.map(lambda x: x[None], rollout.start(env, key))
        *_, (obs, action, done) = rollout.interact(
            agent,
            agent.init(key, env),
            env,
            start,
            key,
            key,
            plan=agent.rollout_plan._replace(rollout_length=length),
            record=lambda _, x: (x.obs, x.action, x.terminated),
        )
        episode = jnp.cumsum(done[:, 0]) - done[:, 0]
        counts = (obs[:, 0] == 0) & (episode < num_episodes)
        episodes = jnp.sum(counts)
        return jnp.sum(counts & (action[:, 0] % 2 == 1)) / episodes, episodes

    keys = jax.random.split(jax.random.key(0), num_seeds)
    shares, episodes = numpy(parallel.map_seeds(run)(keys))
    np.testing.assert_array_equal(episodes, num_episodes)
    return shares


@pytest.mark.slow
def test_double_q_learning_takes_the_bias_of_the_maximum_away(record_property):
    settings = {"step_size": 0.1, "discount": 1.0, "exploration": ex.EpsilonGreedy(0.1)}
    single = shares_of_left(rljax.QLearning(**settings))
    double = shares_of_left(rljax.DoubleQLearning(**settings))
    errors = [x.std(ddof=1) / np.sqrt(len(x)) for x in (single, double)]
    record_property(
        "evidence",
        "example 6.7, share of left in the first 300 episodes (optimum 5 %), "
        f"{len(single)} seeds: QLearning {100 * single.mean():.2f} ± "
        f"{100 * errors[0]:.2f} %, DoubleQLearning {100 * double.mean():.2f} ± "
        f"{100 * errors[1]:.2f} % (standard errors)",
    )
    assert single.mean() - double.mean() > 5 * np.hypot(*errors)
    assert double.mean() >= 0.05 - 5 * errors[1]


@pytest.mark.slow
@pytest.mark.parametrize("ties", ["random", "first"])
def test_q_learning_finds_a_shortest_path_in_1000_episodes(ties, record_property):
    # The published constants, and the published ties: the first of the best actions. No
    # two episodes end within 8 steps, so updates of 8 steps stop each seed at its
    # 1000th episode and no later than 7 steps into the next.
    env = rljax.make("GridWorld-5x5")
    agent = rljax.QLearning(rollout_length=8)
    assert (agent.step_size, agent.discount) == (0.1, 0.99)
    assert agent.exploration == ex.EpsilonGreedy(0.1)
    agent = dataclasses.replace(agent, exploration=ex.EpsilonGreedy(0.1, ties))

    def run(key):
        def update(carry):
            state, episodes, steps = carry
            state, metrics = rljax.train_step(agent, env, state)
            return state, episodes + metrics.num_episodes, steps + 8

        zero = jnp.zeros((), jnp.int32)
        state, episodes, steps = jax.lax.while_loop(
            lambda carry: carry[1] < 1000,
            update,
            (rljax.init_train(agent, env, key), zero, zero),
        )
        out = rljax.evaluate(
            agent, state.agent_state, env, key, num_episodes=1, max_steps=100
        )
        return episodes, steps, out.episode_lengths[0], out.finished[0]

    keys = jax.random.split(jax.random.key(0), 1000)
    episodes, steps, lengths, finished = numpy(parallel.map_seeds(run)(keys))
    np.testing.assert_array_equal(episodes, 1000)
    shortest = int((finished & (lengths == 8)).sum())
    share = stats.binomtest(shortest, 1000).proportion_ci(method="wilson")
    record_property(
        "evidence",
        f"5×5 grid, published constants, ties {ties}, 1000 episodes: the greedy path "
        f"is a shortest one (8 moves) in {shortest} of 1000 seeds (95 % interval of "
        f"the share {share.low:.4f} to {share.high:.4f}); {steps.mean():.0f} steps a "
        f"seed, "
        f"{steps.min()} to {steps.max()}",
    )
    assert shortest == 1000


def assert_close(a, b, rtol=1e-6, atol=1e-6):
    def compare(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)

    jax.tree.map(compare, a, b)


@pytest.mark.slow
@ALL
def test_same_key_same_result_bitwise_and_legacy_keys_too(agent):
    agent = short(agent)
    first = rljax.train(agent, GRID, jax.random.key(3), num_updates=2)
    again = rljax.train(agent, GRID, jax.random.key(3), num_updates=2)
    assert_close(first, again, 0, 0)
    legacy = rljax.train(agent, GRID, jax.random.PRNGKey(3), num_updates=2)
    assert_close(first[0].agent_state, legacy[0].agent_state, 0, 0)
    assert_close(first[1], legacy[1], 0, 0)
    other = rljax.train(agent, GRID, jax.random.key(4), num_updates=2)
    assert not np.array_equal(
        first[0].agent_state.q_values, other[0].agent_state.q_values
    )


@pytest.mark.slow
@ALL
def test_vmapped_settings_and_seeds_equal_the_lone_ones(agent):
    if isinstance(agent.exploration, ex.Softmax):
        make, values = ex.Softmax, jnp.array([0.5, 2.0, 1.0])
    else:
        make, values = ex.EpsilonGreedy, jnp.array([0.0, 0.3, 1.0])

    def run(step_size, discount, value, key):
        learner = short(
            agent, step_size=step_size, discount=discount, exploration=make(value)
        )
        return rljax.train(learner, GRID, key, num_updates=1)

    settings = (jnp.array([0.0, 0.1, 0.5]), jnp.array([0.0, 0.9, 1.0]), values)
    together = jax.vmap(run)(*settings, KEYS)
    for i in range(3):
        lone = run(*(float(x[i]) for x in settings), KEYS[i])
        assert_close(jax.tree.map(lambda x: x[i], together), lone)
    tables = np.asarray(together[0].agent_state.q_values).reshape(3, -1)
    assert len(np.unique(tables, axis=0)) == 3


@pytest.mark.slow
@ALL
def test_x64_learns_in_float64(agent):
    with enable_x64():
        key = jax.random.key(0)
        state, metrics = rljax.train(short(agent), GRID, key, num_updates=1)
    floats = [
        leaf
        for leaf in jax.tree.leaves((state.agent_state, metrics))
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    assert {leaf.dtype for leaf in floats} == {np.dtype("float64")}
    assert all(np.isfinite(leaf).all() for leaf in floats)


@pytest.mark.slow
@ALL
def test_another_float_and_a_second_step_compile_nothing(agent):
    def run(**changes):
        return rljax.train(short(agent, **changes), GRID, KEYS[0], num_updates=1)

    rule = dataclasses.replace(agent.exploration)
    run(exploration=rule)
    before = _train._cache_size()
    run(step_size=1, discount=np.float32(0.5), initial_value=jnp.float32(2))
    run(exploration=type(rule)(1))
    assert _train._cache_size() == before
    step = jax.jit(rljax.train_step)
    state = rljax.init_train(short(agent), GRID, KEYS[0])
    state, _ = step(short(agent), GRID, state)
    before = step._cache_size()
    step(short(agent), GRID, state)
    assert step._cache_size() == before


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("field", ["step_size", "discount"])
def test_the_gradient_through_training_is_that_of_differences(agent, field):
    # Actions that are drawn without regard to Q: no table changes their order. Softmax
    # actions may turn over, but not for a change of 1e-6.
    agent = short(agent, rollout_length=40, discount=0.9)
    if not isinstance(agent, rljax.GradientBandit):
        agent = short(agent, rollout_length=40, exploration=ex.EpsilonGreedy(1.0))

    def total(setting):
        learner = dataclasses.replace(agent, **{field: setting})
        state, _ = rljax.train(learner, GRID, jax.random.key(0), num_updates=1)
        return jnp.sum(state.agent_state.q_values**2)

    with enable_x64():
        at, h = getattr(agent, field), 1e-6
        run = jax.jit(jax.value_and_grad(total))
        (above, _), (_, gradient), (below, _) = (run(x) for x in (at + h, at, at - h))
        above, below, gradient = float(above), float(below), float(gradient)
    numerical = (above - below) / (2 * h)
    assert abs(numerical) > 1e-5
    np.testing.assert_allclose(gradient, numerical, rtol=1e-4)


@pytest.mark.slow
@ALL
def test_several_environments_share_a_table_and_evaluation_plays_it(agent, key):
    env = rljax.GridWorld(("A.G",))
    agent = short(agent, num_envs=3, rollout_length=400)
    state, metrics = rljax.train(agent, env, key, num_updates=2)
    assert state.agent_state.num_steps == 2 * 3 * 400
    assert metrics.num_episodes.min() > 3
    out = rljax.evaluate(
        agent, state.agent_state, env, key, num_episodes=2, max_steps=9
    )
    np.testing.assert_array_equal(out.episode_lengths, [2, 2])
    assert out.finished.all()
    policy = agent.greedy_policy(state.agent_state)
    np.testing.assert_array_equal(policy[:2], [3, 3])
    for obs in range(3):
        assert agent.greedy(state.agent_state, jnp.int32(obs)) == policy[obs]


def test_a_walled_in_greedy_policy_is_given_up_by_evaluation(key):
    # Untrained, the lowest action bumps into the edge for ever.
    agent, env = rljax.QLearning(), rljax.GridWorld()
    state = agent.init(key, env)
    out = rljax.evaluate(agent, state, env, key, num_episodes=1, max_steps=20)
    assert out.episode_lengths == 20
    assert not out.finished


@ALL
def test_the_behaviour_policy_is_what_the_agent_does(agent, key):
    rng = np.random.default_rng(0)
    state = agent.init(key, GRID)
    state = state._replace(
        q_values=jnp.asarray(rng.normal(size=state.q_values.shape), jnp.float32)
    )
    policy = np.asarray(agent.behaviour_policy(state), float)
    np.testing.assert_allclose(policy.sum(1), 1, rtol=1e-6)
    keys = jax.random.split(key, 20_000)
    act = jax.jit(jax.vmap(lambda key: agent.act(state, jnp.int32(4), key)[0]))
    counts = np.bincount(act(keys), minlength=4)
    expected = policy[4] / policy[4].sum() * 20_000
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@ALL
def test_a_continuous_observation_is_refused_with_advice(agent, key):
    message = f"{type(agent).__name__} keeps a table .* Use an agent with a network"
    with pytest.raises(TypeError, match=message):
        rljax.train(agent, rljax.make("CartPole-v1"), key, num_updates=1)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (rljax.QLearning(step_size=jnp.array([0.1, 0.2])), "QLearning.step_size must"),
        (rljax.Sarsa(discount=jnp.array([0.1, 0.2])), "Sarsa.discount must be a"),
        (
            rljax.QLearning(exploration=ex.EpsilonGreedy(jnp.array([0.1, 0.2]))),
            r"QLearning.exploration.epsilon must be a scalar here, has shape \(2,\)",
        ),
    ],
    ids=str,
)
def test_an_array_of_settings_is_refused_without_a_vmap(agent, message, key):
    with pytest.raises(ValueError, match=message):
        rljax.train(agent, GRID, key, num_updates=1)


@pytest.mark.parametrize(
    ("agent_class", "settings", "error", "message"),
    [
        (
            rljax.QLearning,
            {"step_size": 1.1},
            ValueError,
            "QLearning.step_size must be",
        ),
        (rljax.QLearning, {"step_size": -0.1}, ValueError, r"step_size .* in \[0, 1\]"),
        (rljax.QLearning, {"step_size": "0.1"}, TypeError, "QLearning.step_size"),
        (rljax.QLearning, {"discount": 1.01}, ValueError, "QLearning.discount"),
        (rljax.QLearning, {"discount": None}, TypeError, "QLearning.discount"),
        (rljax.Sarsa, {"discount": -0.1}, ValueError, "Sarsa.discount"),
        (rljax.Sarsa, {"lambda_": 1.5}, ValueError, "Sarsa.lambda_"),
        (rljax.Sarsa, {"lambda_": "0.5"}, TypeError, "Sarsa.lambda_"),
        (rljax.Sarsa, {"num_envs": 0}, ValueError, "num_envs must be at least 1"),
        (rljax.QLearning, {"num_envs": 2.0}, TypeError, "QLearning.num_envs"),
        (
            rljax.QLearning,
            {"rollout_length": 0},
            ValueError,
            "QLearning.rollout_length",
        ),
        (rljax.QLearning, {"initial_value": np.inf}, ValueError, "initial_value"),
        (rljax.DoubleQLearning, {"exploration": 0.1}, TypeError, "must be a rule such"),
        (
            rljax.ExpectedSarsa,
            {"target": ex.UCB},
            TypeError,
            "ExpectedSarsa.target must",
        ),
        (rljax.ExpectedSarsa, {"target": 0.1}, TypeError, "ExpectedSarsa.target must"),
        (
            rljax.ExpectedSarsa,
            {"target": ex.UCB()},
            ValueError,
            r"ExpectedSarsa.target = UCB\(c=2.0\) needs counts",
        ),
        (
            rljax.GradientBandit,
            {"exploration": ex.EpsilonGreedy()},
            TypeError,
            "GradientBandit.exploration must be exploration.Softmax",
        ),
        (
            rljax.GradientBandit,
            {"step_size": None},
            TypeError,
            "GradientBandit.step_size must be a number or a schedule, got None",
        ),
        (
            rljax.GradientBandit,
            {"baseline_step_size": -0.1},
            ValueError,
            "GradientBandit.baseline_step_size",
        ),
        (
            rljax.GradientBandit,
            {"baseline_step_size": 2.0},
            ValueError,
            "GradientBandit.baseline_step_size",
        ),
    ],
)
def test_bad_settings_are_refused(agent_class, settings, error, message):
    with pytest.raises(error, match=message):
        agent_class(**settings)


def test_a_target_with_counts_is_taken_where_they_are_kept(key):
    for settings in ({"step_size": None}, {"exploration": ex.UCB()}):
        agent = rljax.ExpectedSarsa(target=ex.UCB(1.0), rollout_length=20, **settings)
        state, _ = rljax.train(agent, GRID, key, num_updates=1)
        assert state.agent_state.counts.sum() == 20


@pytest.mark.parametrize("rule", [ex.EpsilonGreedy(0.3), ex.UCB(0.5)], ids=str)
def test_training_by_sample_means_has_a_finite_gradient(rule):
    def total(value):
        agent = rljax.QLearning(
            step_size=None, initial_value=value, exploration=rule, rollout_length=20
        )
        state, _ = rljax.train(agent, GRID, KEYS[0], num_updates=2)
        return jnp.sum(state.agent_state.q_values)

    gradient = jax.grad(total)(0.1)
    assert np.isfinite(gradient)
    assert gradient > 0


@pytest.mark.parametrize("lambda_", [None, 0.9])
def test_sarsa_takes_rewards_of_another_floating_dtype(lambda_, x64):
    @rljax.struct.dataclass
    class Single(rljax.GridWorld):
        def advance(self, state, action, noise):
            state, step = super().advance(state, action, noise)
            return state, step._replace(reward=step.reward.astype(jnp.float32))

    agent = rljax.Sarsa(lambda_=lambda_, rollout_length=5)
    state, _ = rljax.train(agent, Single(), jax.random.key(0), num_updates=2)
    assert state.agent_state.q_values.dtype == jnp.float64


@pytest.mark.parametrize("agent_class", [rljax.QLearning, rljax.Sarsa])
def test_step_sizes_above_1_are_clipped_and_counters_stop(agent_class, key):
    env = rljax.make("GaussianBandit-5")
    agents = [
        agent_class(
            step_size=schedule,
            discount=0.0,
            exploration=rljax.exploration.UCB(),
            rollout_length=4,
        )
        for schedule in (lambda step: 3.0 + 0 * step, lambda step: 1.0 + 0 * step)
    ]
    last, most = jnp.int32(2**31 - 1), (2**31 - 1) // 5
    states = []
    for agent in agents:
        state = rljax.init_train(agent, env, key)
        table = state.agent_state._replace(num_steps=last - 2)
        # Arms that would be tried at once, were the sum of counts to turn negative.
        q_values = jnp.array([[-1.0, -1.0, 1.0, -1.0, -1.0]])
        table = table._replace(
            counts=jnp.full_like(table.counts, most), q_values=q_values
        )
        state, _ = rljax.train_step(agent, env, state._replace(agent_state=table))
        states.append(state.agent_state)
    np.testing.assert_array_equal(states[0].q_values, states[1].q_values)
    assert states[0].num_steps == last
    assert (states[0].counts == most).all()
    assert states[0].q_values[0, 0] == -1


def test_the_values_of_two_tables_are_their_mean(key):
    agent = rljax.DoubleQLearning()
    state = agent.init(key, GRID)
    table = jax.random.normal(key, state.q_values.shape)
    state = state._replace(q_values=table)
    first, second = np.split(np.asarray(table), 2)
    np.testing.assert_allclose(
        agent.action_values(state), (first + second) / 2, rtol=1e-6
    )
