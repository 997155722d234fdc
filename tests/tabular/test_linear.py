"""Tile coding and semi-gradient Sarsa against scalar loops, and against the table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import exploration, rollout, struct, testing
from tests.oracles import exploration as rules
from tests.oracles import linear as oracle

CAR = rljax.MountainCar(max_position=0.5)
LOW, HIGH = (-1.2, -0.07), (0.5, 0.07)
# A goal that is near and a limit that cuts episodes.
SHORT = rljax.TimeLimit(rljax.MountainCar(force=0.02, goal_position=-0.35), 9)
RULE = exploration.EpsilonGreedy(0.3)


@pytest.mark.parametrize(
    ("low", "high", "num_tilings", "num_tiles"),
    [
        (LOW, HIGH, 8, 8),
        ((0.0,), (3.0,), 4, 3),
        ((-1.0, 0.0, 2.0), (1.0, 5.0, 3.0), 1, 4),
    ],
)
def test_tiles_are_those_of_the_scalar_loop(low, high, num_tilings, num_tiles, x64):
    coding = rljax.TileCoding(low, high, num_tilings, num_tiles)
    obs = np.random.default_rng(0).uniform(low, high, (300, len(low)))
    found = np.asarray(jax.jit(jax.vmap(coding))(obs))
    assert found.dtype == np.int32
    assert found.min() >= 0
    assert found.max() < coding.num_features
    # Two observations share a feature where the oracle says that they share a tile.
    expected = [
        oracle.tiles(one, low, high, num_tilings, num_tiles) for one in obs.tolist()
    ]
    number = {}
    for features, active in zip(found.tolist(), expected, strict=True):
        assert len(set(features)) == num_tilings
        for feature, tile in zip(features, active, strict=True):
            assert number.setdefault(tile, feature) == feature
    assert len(set(number.values())) == len(number) > num_tilings


def test_tiles_end_where_the_box_does():
    coding = rljax.TileCoding(LOW, HIGH)
    assert coding.num_features == 8 * 9 * 9
    assert rljax.TileCoding(LOW, HIGH, 1, 5).num_features == 25
    inside = coding(jnp.array([0.4999, 0.0699]))
    for beyond in (HIGH, (7.0, np.inf)):
        np.testing.assert_array_equal(coding(jnp.array(beyond)), inside)
    np.testing.assert_array_equal(
        coding(jnp.array([-9.0, -np.inf])), coding(jnp.array(LOW))
    )
    assert (coding(jnp.array([jnp.nan, 0.0])) == coding.num_features).all()


@pytest.mark.slow
def test_traced_bounds_without_an_end_are_not_taken_for_tiles(key):
    # In training, an environment's bounds are traced, so nothing can be raised.
    agent = rljax.LinearSarsa(rollout_length=3)
    _, metrics = rljax.train(agent, rljax.CartPole(), key, num_updates=1)
    assert np.isnan(metrics.agent["abs_td_error"]).all()


def episodes(env, agent, num_envs, length):
    """What happens while the agent learns, [T, N] in NumPy, and its last state."""
    agent = dataclasses.replace(agent, num_envs=num_envs)

    @jax.jit
    def run(key):
        state = rljax.init_train(agent, env, key)
        done = rollout.interact(
            agent,
            state.agent_state,
            env,
            state.rollout_state,
            *jax.random.split(key),
            plan=agent.rollout_plan._replace(rollout_length=length),
            record=lambda _, transition: transition,
        )
        return done.agent_state, done.records

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def policy(q):
    return np.array(rules.epsilon_greedy_probabilities(q, 0.3, "random"))


@pytest.mark.parametrize("num_envs", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_weights_equal_the_scalar_loop(num_envs, x64):
    agent = rljax.LinearSarsa(
        step_size=0.4, discount=0.9, exploration=RULE, initial_value=0.5
    )
    state, walk = episodes(SHORT, agent, num_envs, 120)
    assert walk.terminated.sum() > 3
    assert (walk.truncated & ~walk.terminated).sum() > 3
    weights = np.full_like(state.weights, 0.5 / 8)
    assert weights.dtype == np.float64
    space = SHORT.observation_space
    low, high = np.asarray(space.low), np.asarray(space.high)

    def features(obs):
        tiles = oracle.tiles(obs, low, high, 8, 8)
        return [81 * i + 9 * x + v for i, x, v in tiles]

    oracle.sarsa(weights, features, walk, policy, 0.4, 0.9)
    np.testing.assert_allclose(state.weights, weights, rtol=1e-9, atol=1e-12)
    assert state.num_steps == 120 * num_envs


@struct.dataclass
class OneHot:
    """A feature for each state of a table."""

    num_features: int = struct.static(default=9)

    def __call__(self, obs):
        return obs[None]


@pytest.mark.slow
def test_with_a_feature_for_each_state_it_is_tabular_sarsa(x64):
    grid = rljax.TimeLimit(rljax.GridWorld(("A..", ".P.", "..G"), slip=0.3), 7)
    table, walk = episodes(grid, rljax.Sarsa(exploration=RULE), 2, 100)
    linear, same = episodes(grid, rljax.LinearSarsa(OneHot(), exploration=RULE), 2, 100)
    np.testing.assert_array_equal(walk.action, same.action)
    np.testing.assert_allclose(linear.weights, table.q_values, rtol=1e-12, atol=1e-15)
    assert walk.terminated.sum() > 3


@pytest.mark.slow
def test_the_contract_is_kept(key):
    agent = rljax.LinearSarsa(num_envs=2, rollout_length=4)
    testing.check_agent(agent, CAR, key)


@pytest.mark.slow
def test_it_learns_to_drive_and_can_be_evaluated_and_swept(key):
    agent = rljax.LinearSarsa(
        discount=1.0, exploration=exploration.EpsilonGreedy(0.0), rollout_length=5000
    )
    result = rljax.sweep(
        agent,
        CAR,
        key,
        num_seeds=8,
        num_updates=8,
        settings={"step_size": [0.1, 0.5]},
    )
    slow, fast = (outcome.metrics.episode_length for outcome in result.outcomes)
    assert (slow[:, 0] > 300).all()
    assert (slow[:, -1] < 250).all()
    assert fast[:, -1].mean() < slow[:, -1].mean()
    # What is held fixed may go round in the valley for ever, so there is a limit.
    env = rljax.make("MountainCar-v0", max_steps=400)
    state = jax.tree.map(lambda x: x[0], result.outcomes[1].agent_state)
    out = rljax.evaluate(agent, state, env, key, num_episodes=50)
    assert -300 < out.episode_returns.mean() < -97


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rljax.TileCoding((0.0,), (0.0,)), ValueError, "low must be below"),
        (lambda: rljax.TileCoding((0.0,), (1.0, 1.0)), ValueError, "for each dimens"),
        (lambda: rljax.TileCoding(0.0, 1.0), TypeError, "TileCoding.low must be a num"),
        (
            lambda: rljax.TileCoding((0.0,), (np.inf,)),
            ValueError,
            "high must be finite",
        ),
        (lambda: rljax.TileCoding((0.0,) * 9, (1.0,) * 9), ValueError, "too many"),
        (lambda: rljax.TileCoding(LOW, HIGH, 0), ValueError, "num_tilings must be at"),
        (
            lambda: rljax.TileCoding(LOW, HIGH)(jnp.zeros((3, 2))),
            ValueError,
            r"obs must have shape \(2,\) to be tiled, got \(3, 2\)",
        ),
        (lambda: rljax.LinearSarsa(step_size=None), TypeError, "LinearSarsa.step_size"),
        (lambda: rljax.LinearSarsa(step_size=1.5), ValueError, r"in \[0, 1\]"),
        (lambda: rljax.LinearSarsa(discount=1.5), ValueError, "LinearSarsa.discount"),
        (
            lambda: rljax.LinearSarsa(initial_value=np.inf),
            ValueError,
            "LinearSarsa.initial_value",
        ),
        (lambda: rljax.LinearSarsa(num_envs=0), ValueError, "num_envs must be at"),
        (lambda: rljax.LinearSarsa(exploration=0.1), TypeError, "must be a rule such"),
        (
            lambda: rljax.LinearSarsa(exploration=exploration.UCB()),
            ValueError,
            "exploration must need no counts",
        ),
        (lambda: rljax.LinearSarsa(8), TypeError, r"features must be such as rljax\."),
        (
            lambda: rljax.LinearSarsa(rljax.TileCoding),
            TypeError,
            r"features must be such as rljax\.",
        ),
        (
            lambda: rljax.LinearSarsa().init(jax.random.key(0), rljax.CartPole()),
            ValueError,
            "between the bounds of observations, .* with finite ones",
        ),
        (
            lambda: rljax.LinearSarsa().init(jax.random.key(0), rljax.GridWorld()),
            TypeError,
            "lays tiles over vectors, .* take Sarsa if it is Discrete",
        ),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_features_must_be_indices(key):
    class Dense(OneHot):
        def __call__(self, obs):
            return obs

    agent = rljax.LinearSarsa(struct.dataclass(Dense)())
    with pytest.raises(
        TypeError, match=r"indices of active features, \[K\] int32, ret"
    ):
        agent.init(key, CAR)
