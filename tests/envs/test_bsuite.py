"""Four games of bsuite against whole episodes that are played cell by cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.envs import deepsea, pictures
from rljax.envs.catch import CatchState
from rljax.envs.deepsea import DeepSeaState
from rljax.types import SparseTransitions
from tests.oracles import bsuite as oracle


@jax.jit
def played(env, actions, key):
    """The state and observation of each reset [E], noise and time steps [E, T]."""
    key_reset, key_noise = jax.random.split(key)
    states, obs = jax.vmap(env.reset)(jax.random.split(key_reset, len(actions)))
    is_random = isinstance(env, rljax.DeepSea | rljax.Umbrella)
    noise = env.draw(actions.shape, key_noise) if is_random else ()

    def episode(state, actions, noise):
        def step(state, x):
            return env.advance(state, *x)

        return jax.lax.scan(step, state, (actions, noise))[1]

    return states, obs, noise, jax.vmap(episode)(states, actions, noise)


def check(env, length, number, replay, key, tolerance=0.0):
    """Plays `number` steps and replays them; returns states of resets and noise.

    `replay` gets the state and all actions of an episode, and what was drawn after the
    state: the noise of its steps and its first observation.
    """
    rng = np.random.default_rng(0)
    actions = rng.integers(env.action_space.n, size=(number // length, length))
    out = played(env, actions.astype(np.int32), key)
    states, first, noise, time_steps = jax.tree.map(np.asarray, out)
    episodes = [
        replay(*jax.tree.map(lambda x, i=i: x[i], (states, actions, (noise, first))))
        for i in range(len(actions))
    ]
    observations, rewards = map(np.float32, zip(*episodes, strict=True))
    found = np.concatenate([first[:, None], time_steps.obs], axis=1)
    np.testing.assert_array_max_ulp(found, observations, maxulp=1)
    np.testing.assert_allclose(time_steps.reward, rewards, rtol=0, atol=tolerance)
    ends = np.broadcast_to(np.arange(1, length + 1) == length, actions.shape)
    np.testing.assert_array_equal(time_steps.terminated, ends)
    assert not time_steps.truncated.any()
    return states, noise


NUMBERS = pytest.mark.parametrize(
    "number", [1000, pytest.param(30_000, marks=pytest.mark.slow)]
)


def is_uniform(draws, number):
    shares = np.bincount(draws.ravel(), minlength=number) / draws.size
    error = (shares * (1 - shares) / draws.size) ** 0.5
    return len(shares) == number and (np.abs(shares - 1 / number) < 4 * error).all()


@NUMBERS
def test_catch(number, key):
    def replay(state, actions, _):
        return oracle.catch(state.ball_column, actions, 7, 4)

    states, _ = check(rljax.Catch(7, 4), 6, number, replay, key)
    assert is_uniform(states.ball_column, 4)


@NUMBERS
def test_deep_sea(number, key):
    env = rljax.DeepSea(10, stochastic=True, tabular=False)
    goes_right = [list(map(int, row)) for row in oracle.DEEP_SEA_10]

    def replay(_, actions, drawn):
        (moves, of_rewards), _ = drawn
        return oracle.deep_sea(goes_right, actions, moves < 0.1, of_rewards, 0.01)

    _, (moves, of_rewards) = check(env, 10, number, replay, key, tolerance=1e-6)
    assert is_uniform((10 * moves).astype(int), 10)
    moments = [
        of_rewards.mean(),
        of_rewards.std(),
        np.corrcoef(moves.flat, of_rewards.flat)[0, 1],
    ]
    np.testing.assert_allclose(moments, [0, 1, 0], atol=0.1)


@NUMBERS
def test_memory_chain(number, key):
    def replay(state, actions, _):
        context = state.context.astype(int)
        return oracle.memory_chain(context, state.query, actions, 4)

    states, _ = check(rljax.MemoryChain(4, 3), 5, number, replay, key)
    assert is_uniform(states.query + states.context @ [3, 6, 12], 24)


@NUMBERS
def test_umbrella(number, key):
    def replay(state, actions, drawn):
        noise, first = drawn
        distractors = [first[0, 3:], *noise[:, 1:]]
        coins = noise[:, 0]
        return oracle.umbrella(state.need, state.have, distractors, coins, actions)

    states, noise = check(rljax.Umbrella(5, 40), 5, number, replay, key)
    assert is_uniform(2 * states.need + states.have, 4)
    # 41 coins of more than one random word; all are fair, and no two go together.
    coins = noise.reshape(-1, 41)
    assert all(is_uniform(coin.astype(int), 2) for coin in coins.T)
    between = np.corrcoef(coins.T) - np.eye(41)
    assert np.abs(between).max() < 5 / len(coins) ** 0.5


# Models.


def check_model(env, states, terminal, noises, chances):
    """Compares the model with steps from all states; returns it.

    Args:
      env: its observations are the numbers of states.
      states: all of them, leaves [S], in their order.
      terminal: [S] bool, where no step is taken.
      noises: what leads to the outcomes of a step, leaves [K].
      chances: the probabilities of the outcomes, K of them.
    """

    @jax.jit
    def modelled(env):
        every = env.advance
        for axes in ((None, None, 0), (None, 0, None), (0, None, None)):
            every = jax.vmap(every, axes)
        actions = jnp.arange(env.action_space.n, dtype=jnp.int32)
        models = env.to_mdp(), env.to_mdp(sparse=True)
        return *every(states, actions, noises), *models

    assert env.observation_space.n == len(terminal)
    after, time_step, mdp, sparse = jax.tree.map(np.asarray, modelled(env))
    number = np.arange(len(terminal)).reshape(-1, 1, 1)
    successors = np.where(terminal[number], number, time_step.obs)
    expected = np.zeros_like(mdp.transitions)
    for (s, a, k), successor in np.ndenumerate(successors):
        expected[s, a, successor] += chances[k]
    np.testing.assert_allclose(mdp.transitions, expected, rtol=1e-6)
    assert isinstance(sparse.transitions, SparseTransitions)
    np.testing.assert_array_equal(sparse.transitions.next_states, successors)
    listed = np.broadcast_to(np.float32(chances), successors.shape)
    np.testing.assert_array_equal(sparse.transitions.probabilities, listed)
    rewards = np.where(terminal[:, None], 0, time_step.reward @ chances)
    np.testing.assert_allclose(mdp.rewards, rewards, atol=1e-6)
    np.testing.assert_array_equal(sparse.rewards, mdp.rewards)
    np.testing.assert_array_equal(mdp.terminal, terminal)
    lasts = time_step.terminated[~terminal]
    np.testing.assert_array_equal(lasts, terminal[time_step.obs[~terminal]])
    for observed, place in zip(states, after, strict=True):
        same = observed[time_step.obs[~terminal]] == place[~terminal]
        assert (same | lasts).all()
    return mdp


def best_values(mdp):
    """Σ r under the best policy, [S], by backward induction."""
    values = np.zeros(len(mdp.terminal))
    for _ in range(20):
        after = mdp.transitions @ values
        values = np.where(mdp.terminal, 0, (mdp.rewards + after).max(1))
    return values


def test_the_model_of_catch():
    rows, columns = 4, 3
    ball_row, ball_column, paddle = np.indices((rows, columns, columns), np.int32)
    states = CatchState(ball_row.ravel(), ball_column.ravel(), paddle.ravel())
    env = rljax.Catch(rows, columns, tabular=True)
    mdp = check_model(env, states, states.ball_row == 3, np.zeros(1), [1.0])
    # Row 0, the ball in each of the columns, the paddle in the middle.
    starts = np.isin(np.arange(rows * columns**2), [1, 4, 7])
    np.testing.assert_allclose(mdp.initial, starts / 3)
    np.testing.assert_array_equal(best_values(mdp)[starts], 1)


@pytest.mark.parametrize("stochastic", [False, True])
def test_the_model_of_the_deep_sea(stochastic):
    env = rljax.DeepSea(stochastic=stochastic)
    row, column = np.indices((11, 10), np.int32)
    states = DeepSeaState(row.ravel()[:101], column.ravel()[:101])
    noises, chances = np.zeros((2, 1)), [1.0]
    if stochastic:
        noises, chances = np.array([[0.09, 0.11], [0.0, 0.0]]), [0.1, 0.9]
    mdp = check_model(env, states, np.arange(101) == 100, tuple(noises), chances)
    np.testing.assert_array_equal(mdp.initial, np.eye(101)[0])
    # The best policy goes right until a move fails; each of them costs 0.001.
    alive = np.array([0.9 if stochastic else 1.0]) ** np.arange(10)
    best = alive[-1] - 0.001 * alive.sum()
    assert best_values(mdp)[0] == pytest.approx(best, abs=1e-6)


def test_without_a_seed_action_1_goes_right_everywhere():
    np.testing.assert_array_equal(deepsea._mapping(3, None), np.ones(9))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rljax.Catch(rows=1), ValueError, "Catch.rows must be at least 2"),
        (lambda: rljax.Catch(columns=0), ValueError, "Catch.columns must be at leas"),
        (lambda: rljax.Catch(tabular=1), TypeError, "Catch.tabular must be True or F"),
        (lambda: rljax.DeepSea(0), ValueError, "DeepSea.size must be at least 1"),
        (
            lambda: rljax.DeepSea(move_cost=np.nan),
            ValueError,
            "DeepSea.move_cost must be finite",
        ),
        (
            lambda: rljax.DeepSea(mapping_seed=-1),
            ValueError,
            "DeepSea.mapping_seed must be at least 0",
        ),
        (
            lambda: rljax.DeepSea(stochastic=0.1),
            TypeError,
            "DeepSea.stochastic must be True or False",
        ),
        (lambda: rljax.DeepSea(tabular="no"), TypeError, "DeepSea.tabular must be"),
        (
            lambda: rljax.DeepSea(move_cost=np.ones(2)).to_mdp(),
            ValueError,
            r"DeepSea.move_cost must be a scalar here, has shape \(2,\)",
        ),
        (
            lambda: rljax.MemoryChain(0),
            ValueError,
            "MemoryChain.memory_length must be at least 1",
        ),
        (
            lambda: rljax.MemoryChain(num_bits=0),
            ValueError,
            "MemoryChain.num_bits must be at least 1",
        ),
        (
            lambda: rljax.Umbrella(0),
            ValueError,
            "Umbrella.chain_length must be at least 1",
        ),
        (
            lambda: rljax.Umbrella(num_distractors=-1),
            ValueError,
            "Umbrella.num_distractors must be at least 0",
        ),
    ],
)
def test_bad_settings_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["Catch", "DeepSea", "MemoryChain", "Umbrella"])
def test_bad_actions_are_refused(name):
    env = getattr(rljax, name)()
    with pytest.raises(ValueError, match=f"{name}'s action must lie in Discrete"):
        env.advance(None, env.action_space.n, None)


def test_spaces_have_the_bounds_of_what_is_observed():
    space = rljax.MemoryChain(num_bits=3).observation_space
    np.testing.assert_array_equal(space.low, [[0, 0, -1, -1, -1]])
    np.testing.assert_array_equal(space.high, [[1, 2, 1, 1, 1]])
    for env, shape in (
        (rljax.Catch(7, 4), (7, 4)),
        (rljax.DeepSea(3, tabular=False), (3, 3)),
        (rljax.Umbrella(num_distractors=0), (1, 3)),
    ):
        space = env.observation_space
        assert (space.low, space.high, space.shape) == (0, 1, shape)


# Learning, and the contract of what `make` has no name for.


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        rljax.Catch(tabular=True),
        rljax.DeepSea(4, stochastic=True, tabular=False, mapping_seed=None),
    ],
    ids=repr,
)
def test_settings_keep_the_contract(env, key):
    rljax.testing.check_env(env, key)


@pytest.mark.slow
def test_optimism_finds_the_treasure_and_small_random_steps_do_not(record_property):
    """Exact regret of the greedy policy after 300 episodes, for 4 tables of each."""

    def regret(agent):
        def train(key):
            curve = rljax.regret.train_with_exact_returns(
                agent, rljax.DeepSea(), key, num_updates=3
            )[2]
            return curve.greedy_regret[-1], curve.optimal

        return jax.vmap(train)(jax.random.split(jax.random.key(0), 4))

    settings = {"step_size": 1.0, "discount": 1.0, "rollout_length": 1000}
    never = rljax.exploration.EpsilonGreedy(0.0)
    optimist = rljax.QLearning(initial_value=1.0, exploration=never, **settings)
    (found, best), (lost, _) = map(regret, (optimist, rljax.QLearning(**settings)))
    record_property(
        "evidence",
        f"DeepSea-10, 4 tables, 3,000 steps: greedy regret {found.max():.3f} at most "
        f"with optimism, {lost.min():.3f} at least with ε-greedy, of {best[0]:.2f}",
    )
    np.testing.assert_allclose(best, 0.99, atol=1e-5)
    assert (found < 1e-5).all()
    assert (lost > 0.98).all()


# Pictures.


def middle(picture, name):
    """Row and column of the middle of a colour, or None."""
    color = tuple(bytes.fromhex(name.removeprefix("#")))
    rows, columns = np.nonzero((picture == color).all(-1))
    return (rows.mean(), columns.mean()) if len(rows) else None


def test_ball_and_paddle_are_drawn_where_they_are():
    env = rljax.Catch(6, 4)
    for state in ((0, 3, 2), (4, 0, 0), (5, 1, 1)):
        picture = env.render(CatchState(*map(np.int32, state)), size=120)
        assert picture.shape == (120, 80, 3)
        row, column, paddle = state
        ball = 20 * row + 9.5, 20 * column + 9.5
        assert middle(picture, pictures.GOLD) == pytest.approx(ball, abs=1)
        bar = 20 * 5 + 9.5, 20 * paddle + 9.5
        assert middle(picture, pictures.AGENT) == pytest.approx(bar, abs=1)
        assert middle(picture, pictures.DANGER) is None
    missed = env.render(CatchState(*map(np.int32, (5, 1, 2))), size=120)
    assert middle(missed, pictures.GOLD) is None
    assert middle(missed, pictures.DANGER) == pytest.approx((109.5, 29.5), abs=1)


def test_the_diver_is_drawn_where_it_is():
    env = rljax.DeepSea(4)
    for row, column in ((0, 0), (2, 1), (4, 3)):
        picture = env.render(DeepSeaState(np.int32(row), np.int32(column)), size=100)
        assert picture.shape == (100, 80, 3)
        place = 20 * row + 9.5, 20 * column + 9.5
        assert middle(picture, pictures.AGENT) == pytest.approx(place, abs=1)
        assert middle(picture, pictures.GOLD) == pytest.approx((69.5, 69.5), abs=1)
        assert (picture[81:, -1] == picture[99, 79]).all()  # the ground
