"""Grids: the map of the specification, and Gymnasium's tables entry by entry."""

import collections
import dataclasses
import functools
import inspect
import textwrap

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv, generate_random_map
from scipy import stats

import rljax
from rljax import GridWorld
from rljax.types import SparseTransitions
from tests.oracles import planning as oracle

UP, DOWN, LEFT, RIGHT = range(4)
# Gymnasium's action for each of ours.
FROZEN_LAKE_ORDER = {UP: 3, DOWN: 1, LEFT: 0, RIGHT: 2}
CLIFF_ORDER = {UP: 0, DOWN: 2, LEFT: 3, RIGHT: 1}
CLIFF_CAN_SLIP = "is_slippery" in inspect.signature(CliffWalkingEnv).parameters

SLIPPERY = ("A..P", ".#..", "A..G")
NUM_SAMPLES = 20_000


@jax.jit
def all_outcomes(env):
    """[S, A, K] outcomes of every cell and action."""
    cells = jnp.arange(env.observation_space.n)
    return jax.vmap(jax.vmap(env.outcomes, (None, 0)), (0, None))(cells, jnp.arange(4))


@jax.jit
def steps(env, cells, actions, keys):
    return jax.vmap(env.step)(cells, actions, keys)


def dense(transitions):
    """[S, A, S] of either kind of transitions, by a loop."""
    if not isinstance(transitions, SparseTransitions):
        return np.asarray(transitions)
    next_states = np.asarray(transitions.next_states)
    probabilities = np.asarray(transitions.probabilities)
    table = np.zeros((*next_states.shape[:2], len(next_states)), probabilities.dtype)
    for index in np.ndindex(next_states.shape):
        table[(*index[:2], next_states[index])] += probabilities[index]
    return table


# The 5×5 map.


def test_the_5x5_map_is_the_published_one():
    transitions, rewards, terminal = oracle.grid_5x5()
    mdp = rljax.make("GridWorld-5x5").to_mdp()
    np.testing.assert_array_equal(mdp.transitions, transitions)
    np.testing.assert_array_equal(mdp.rewards, rewards.astype(np.float32))
    np.testing.assert_array_equal(mdp.terminal, terminal)
    np.testing.assert_array_equal(mdp.initial, np.eye(25)[0])


def test_steps_of_the_5x5_map_are_the_published_ones(key):
    transitions, rewards, terminal = oracle.grid_5x5()
    cells, actions = np.divmod(np.arange(100), 4)
    keys = jax.random.split(key, 100)
    after, time_step = steps(GridWorld(), cells, actions, keys)
    walls_and_goal = terminal[cells]
    live = ~walls_and_goal
    following = transitions[cells, actions].argmax(-1)
    np.testing.assert_array_equal(after[live], following[live])
    np.testing.assert_array_equal(time_step.obs[live], following[live])
    np.testing.assert_array_equal(
        time_step.reward[live], rewards[cells, actions][live].astype(np.float32)
    )
    np.testing.assert_array_equal(time_step.terminated[live], following[live] == 24)
    assert time_step.terminated[live].sum() == 2
    assert not time_step.truncated.any()


def test_render_shows_the_agent_the_goal_and_the_walls(key):
    env = GridWorld()
    state, _ = env.reset(key)
    assert env.render_text(state) == "A....\n.#.#.\n.#.#.\n.#...\n....G"
    for action in (RIGHT, UP, RIGHT, LEFT):
        state, _ = env.step(state, action, key)
    assert env.render_text(state) == ".A...\n.#.#.\n.#.#.\n.#...\n....G"
    assert env.render_text(24) == ".....\n.#.#.\n.#.#.\n.#...\n....A"
    # Of other starts only the agent's own cell is marked.
    assert GridWorld(SLIPPERY).render_text(5 + 1) == "...P\n.#A.\n...G"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.zeros(3, int), r"policy must be \[25\] integers, .* got int64 \[3\]"),
        (np.zeros(25), r"policy must be \[25\] integers, .* got float64 \[25\]"),
        (np.zeros((25, 4), int), r"policy must be \[25\] integers"),
        (np.full(25, -1), r"actions in \[0, 4\), got -1 in cell 0"),
        (np.arange(25), r"actions in \[0, 4\), got 4 in cell 4"),
    ],
)
def test_what_is_no_policy_is_not_rendered(policy, message):
    with pytest.raises(ValueError, match=message):
        GridWorld().render_policy(policy)


# Maps from text.


def test_from_text_takes_indented_rows_and_aliases():
    text = """

        SFH
        F.G
        PC#

    """
    env = GridWorld.from_text(text, slip=0.25, pit_reward=-3)
    assert env == GridWorld(("A.P", "..G", "PC#"), slip=0.25, pit_reward=-3.0)
    assert env == GridWorld.from_text(textwrap.dedent(text), slip=0.25, pit_reward=-3)
    assert env.shape == (3, 3)
    assert env.observation_space.n == 9
    assert env.action_space.n == 4


def test_each_kind_of_cell_has_its_own_reward_and_end(key):
    env = GridWorld.from_text(
        "GPC\n.A#\n.G.",
        goal_reward=2.0,
        pit_reward=-3.0,
        cliff_reward=-4.0,
        step_reward=-0.5,
    )
    facts = {}
    for cell, action in [(4, UP), (3, UP), (4, RIGHT), (4, DOWN), (5 + 3, UP), (3, 3)]:
        after, time_step = env.step(jnp.int32(cell), action, key)
        facts[cell, action] = (
            int(after),
            float(time_step.reward),
            bool(time_step.terminated),
        )
    assert facts == {
        (4, UP): (1, -3.0, True),  # a pit
        (3, UP): (0, 2.0, True),  # one goal
        (4, RIGHT): (4, -0.5, False),  # a wall
        (4, DOWN): (7, 2.0, True),  # the other goal
        (8, UP): (8, -0.5, False),  # a wall from below
        (3, RIGHT): (4, -0.5, False),
    }
    # Over the cliff and back to the start, from the pit's cell: only moves count here.
    after, time_step = env.step(jnp.int32(1), RIGHT, key)
    assert (int(after), float(time_step.reward)) == (4, -4.0)
    assert not time_step.terminated
    np.testing.assert_array_equal(np.flatnonzero(env.to_mdp().terminal), [0, 1, 5, 7])


def test_max_steps_truncates(key):
    env = GridWorld.from_text("A..G", max_steps=2)
    assert env == rljax.TimeLimit(GridWorld(("A..G",)), 2)
    state, _ = env.reset(key)
    state, first = env.step(state, RIGHT, key)
    state, second = env.step(state, RIGHT, key)
    assert (bool(first.truncated), bool(second.truncated)) == (False, True)
    assert not second.terminated
    np.testing.assert_array_equal(env.to_mdp().rewards, env.env.to_mdp().rewards)


# Gymnasium.


def gymnasium_entries(table, cell, action):
    """What Gymnasium lists for a cell and its own action, duplicates added up."""
    entries = collections.Counter()
    for probability, after, reward, terminated in table[cell][action]:
        entries[int(after), float(reward), bool(terminated)] += probability
    return entries


def compare_outcomes(env, table, order, cells):
    """Every (next cell, reward, terminated) and its probability, both ways."""
    outcomes = jax.tree.map(np.asarray, all_outcomes(env))
    for cell in cells:
        for action in range(4):
            ours = collections.Counter()
            for after, reward, terminated, probability in zip(
                *(leaf[cell, action] for leaf in outcomes), strict=True
            ):
                ours[int(after), float(reward), bool(terminated)] += float(probability)
            theirs = gymnasium_entries(table, cell, order[action])
            assert ours.keys() == theirs.keys(), (cell, action)
            for entry, probability in theirs.items():
                np.testing.assert_allclose(ours[entry], probability, atol=1e-6)


def compare_mdp(mdp, table, order, cells):
    """P(s'|s,a), R(s,a) and the probability of an end."""
    transitions = np.zeros((len(table), 4, len(table)))
    rewards, ends = np.zeros((2, len(table), 4))
    for cell in table:
        for action in range(4):
            entries = gymnasium_entries(table, cell, order[action])
            for (after, reward, terminated), probability in entries.items():
                transitions[cell, action, after] += probability
                rewards[cell, action] += probability * reward
                ends[cell, action] += probability * terminated
    ours = dense(mdp.transitions)
    np.testing.assert_allclose(ours[cells], transitions[cells], atol=1e-6)
    np.testing.assert_allclose(
        np.asarray(mdp.rewards)[cells], rewards[cells], atol=1e-5
    )
    ended = (ours * np.asarray(mdp.terminal)).sum(-1)
    np.testing.assert_allclose(ended[cells], ends[cells], atol=1e-6)


@functools.cache
def frozen_lake_table(map_name, is_slippery):
    return FrozenLakeEnv(map_name=map_name, is_slippery=is_slippery).P


def live_cells(env):
    """The cells in which an episode goes on; nobody acts in the others."""
    return np.flatnonzero([cell not in "#GP" for cell in "".join(env.layout)])


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("is_slippery", [True, False], ids=["slippery", "firm"])
@pytest.mark.parametrize("size", ["4x4", "8x8"])
def test_frozen_lake_equals_gymnasiums_table(size, is_slippery, sparse):
    settings = {} if is_slippery else {"slip": None}
    env = rljax.make(f"FrozenLake-{size}", **settings)
    table = frozen_lake_table(size, is_slippery)
    assert (
        env.max_steps
        == (
            gymnasium.spec("FrozenLake8x8-v1" if size == "8x8" else "FrozenLake-v1")
        ).max_episode_steps
    )
    # Outcomes: the cells in which an episode goes on. Gymnasium lists holes and the
    # goal as absorbing with reward 0, and so does the MDP: there, every cell.
    compare_outcomes(env.env, table, FROZEN_LAKE_ORDER, live_cells(env.env))
    compare_mdp(env.to_mdp(sparse=sparse), table, FROZEN_LAKE_ORDER, list(table))


@pytest.mark.parametrize("seed", range(3))
def test_random_lakes_equal_gymnasiums_tables(seed):
    rows = generate_random_map(size=6, p=0.75, seed=seed)
    env = GridWorld.from_text("\n".join(rows), slip=2 / 3, step_reward=0, pit_reward=0)
    table = FrozenLakeEnv(desc=rows, is_slippery=True).P
    compare_outcomes(env, table, FROZEN_LAKE_ORDER, live_cells(env))
    compare_mdp(env.to_mdp(), table, FROZEN_LAKE_ORDER, list(table))


@pytest.mark.parametrize(
    "is_slippery",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                not CLIFF_CAN_SLIP, reason="this Gymnasium's cliff is never slippery"
            ),
        ),
    ],
    ids=["firm", "slippery"],
)
def test_cliff_walking_equals_gymnasiums_table(is_slippery):
    env = rljax.make("CliffWalking", slip=2 / 3 if is_slippery else None)
    table = CliffWalkingEnv(**({"is_slippery": True} if is_slippery else {})).P
    # Gymnasium lists ordinary moves from the cliff's cells and from the goal, where
    # nobody acts. So do the outcomes: every cell. In the MDP the goal is absorbing
    # instead, with reward 0: every cell but it.
    compare_outcomes(env, table, CLIFF_ORDER, list(table))
    mdp = env.to_mdp()
    compare_mdp(mdp, table, CLIFF_ORDER, list(table)[:-1])
    np.testing.assert_array_equal(mdp.transitions[47], np.tile(np.eye(48)[47], (4, 1)))
    np.testing.assert_array_equal(mdp.rewards[47], 0.0)
    np.testing.assert_array_equal(np.flatnonzero(mdp.terminal), [47])
    np.testing.assert_array_equal(np.flatnonzero(mdp.initial), [36])


def changed(table, change):
    """The table with cell 1's list for Gymnasium's action 0 changed."""
    entries = change([tuple(entry) for entry in table[1][0]])
    return table | {1: table[1] | {0: entries}}


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [(rows[0][0], rows[0][1] + 1, *rows[0][2:]), *rows[1:]],
        lambda rows: [(*rows[0][:2], rows[0][2] + 1e-3, rows[0][3]), *rows[1:]],
        lambda rows: [(*rows[0][:3], not rows[0][3]), *rows[1:]],
        lambda rows: [
            (rows[0][0] + 1e-4, *rows[0][1:]),
            (rows[1][0] - 1e-4, *rows[1][1:]),
            *rows[2:],
        ],
    ],
    ids=["cell", "reward", "end", "probability"],
)
def test_the_comparisons_notice_one_wrong_entry(change):
    env = rljax.make("FrozenLake-4x4").env
    table = changed(frozen_lake_table("4x4", True), change)
    with pytest.raises(AssertionError):
        compare_outcomes(env, table, FROZEN_LAKE_ORDER, live_cells(env))
    with pytest.raises(AssertionError):
        compare_mdp(env.to_mdp(), table, FROZEN_LAKE_ORDER, list(table))


# The model and the steps.


@functools.cache
def samples(how):
    """[S, A, N] cells after, rewards and ends of the slippery map, slip 0.3."""
    env = GridWorld(SLIPPERY, slip=0.3)

    def sample(cell, action):
        key = jax.random.fold_in(jax.random.key(1), 4 * cell + action)
        if how == "step":
            step = functools.partial(env.step, cell, action)
            noise = jax.random.split(key, NUM_SAMPLES)
        else:
            step = functools.partial(env.advance, cell, action)
            noise = env.draw((NUM_SAMPLES,), key)
        after, time_step = jax.vmap(step)(noise)
        return after, time_step.reward, time_step.terminated

    over_actions = jax.vmap(sample, (None, 0))
    over_cells = jax.jit(jax.vmap(over_actions, (0, None)))
    return jax.tree.map(np.asarray, over_cells(jnp.arange(12), jnp.arange(4)))


def chi_square(after, transitions, cells):
    """p of the counts of cells after; 0 if one has a probability of 0."""
    statistic, degrees = 0.0, 0
    for cell in cells:
        for action in range(4):
            counts = np.bincount(after[cell, action], minlength=12)
            expected = NUM_SAMPLES * np.asarray(transitions[cell, action], float)
            possible = expected > 0
            if counts[~possible].any():
                return 0.0
            difference = (counts - expected)[possible]
            statistic += (difference**2 / expected[possible]).sum()
            degrees += possible.sum() - 1
    return stats.chi2.sf(statistic, degrees)


@pytest.mark.parametrize("how", ["step", "advance"])
def test_the_model_equals_the_frequencies_of_steps(how, record_property):
    env = GridWorld(SLIPPERY, slip=0.3)
    mdp, cells = env.to_mdp(), live_cells(env)
    after, rewards, ends = samples(how)
    p = chi_square(after, mdp.transitions, cells)
    record_property(
        "evidence",
        f"GridWorld's model against {rewards[cells].size:,} calls of {how}: chi-square "
        f"p = {p:.2f}",
    )
    assert p > 1e-3
    error = np.abs(rewards.mean(-1) - mdp.rewards)
    assert (error <= 5 * rewards.std(-1) / NUM_SAMPLES**0.5 + 1e-6)[cells].all()
    np.testing.assert_array_equal(ends[cells], np.isin(after, [3, 11])[cells])


@pytest.mark.parametrize("slip", [0.28, 0.32])
def test_the_frequencies_tell_a_wrong_slip(slip):
    env = GridWorld(SLIPPERY, slip=slip)
    assert chi_square(samples("step")[0], env.to_mdp().transitions, live_cells(env)) < (
        1e-9
    )


def test_starts_are_as_frequent_as_the_model_says(key):
    env = GridWorld(SLIPPERY)
    initial = np.asarray(env.to_mdp().initial)
    np.testing.assert_array_equal(np.flatnonzero(initial), [0, 8])
    cells, obs = jax.vmap(env.reset)(jax.random.split(key, 10_000))
    np.testing.assert_array_equal(cells, obs)
    counts = np.bincount(cells, minlength=12)
    assert counts[initial == 0].sum() == 0
    assert stats.chisquare(counts[[0, 8]], 10_000 * initial[[0, 8]]).pvalue > 1e-3


@pytest.mark.parametrize(
    "env",
    [
        GridWorld(),
        GridWorld(slip=0.3),
        GridWorld(SLIPPERY, slip=1.0),
        rljax.make("GridWorld-7x7", slip=0.1),
        rljax.make("CliffWalking", slip=0.5),
    ],
    ids=["firm", "slippery", "only sideways", "7x7", "cliff"],
)
def test_the_sparse_model_is_the_dense_one(env):
    whole, listed = env.to_mdp(), env.to_mdp(sparse=True)
    assert isinstance(listed.transitions, SparseTransitions)
    np.testing.assert_allclose(
        dense(listed.transitions), whole.transitions, rtol=1e-6, atol=1e-7
    )
    for name in ("rewards", "terminal", "initial"):
        np.testing.assert_array_equal(getattr(listed, name), getattr(whole, name))


def test_goals_pits_and_walls_are_absorbing_without_reward():
    mdp = GridWorld(SLIPPERY, slip=0.3).to_mdp()
    ended = np.array([3, 5, 11])  # pit, wall, goal
    np.testing.assert_array_equal(np.flatnonzero(mdp.terminal), ended)
    for cell in ended:
        np.testing.assert_allclose(
            mdp.transitions[cell], np.tile(np.eye(12)[cell], (4, 1)), atol=1e-6
        )
    np.testing.assert_array_equal(mdp.rewards[ended], 0.0)
    # Nothing leads into a wall.
    assert np.asarray(mdp.transitions[:, :, 5]).sum() == pytest.approx(4)


def test_no_slip_uses_no_randomness_and_a_slip_of_zero_changes_nothing(key):
    assert GridWorld().draw((3,), key) == ()
    assert GridWorld(slip=0.0).draw((3,), key).shape == (3,)
    firm, zero = GridWorld().to_mdp(), GridWorld(slip=0.0).to_mdp()
    jax.tree.map(np.testing.assert_array_equal, firm, zero)
    cells, actions = np.divmod(np.arange(100), 4)
    keys = jax.random.split(key, 100)
    jax.tree.map(
        np.testing.assert_array_equal,
        steps(GridWorld(), cells, actions, keys),
        steps(GridWorld(slip=0.0), cells, actions, keys),
    )


def test_a_step_is_advance_with_its_draw(key):
    env = GridWorld(SLIPPERY, slip=0.6)
    cells = set()
    for step_key in jax.random.split(key, 20):
        stepped = env.step(jnp.int32(6), RIGHT, step_key)
        advanced = env.advance(jnp.int32(6), RIGHT, env.draw((), step_key))
        jax.tree.map(np.testing.assert_array_equal, stepped, advanced)
        cells.add(int(stepped[0]))
    assert cells == {2, 7, 10}


# Transformations.


def test_slip_and_rewards_are_leaves():
    def model(slip, pit_reward):
        return GridWorld(SLIPPERY, slip=slip, pit_reward=pit_reward).to_mdp()

    slips, rewards = jnp.array([0.0, 0.2, 0.7]), jnp.array([-1.0, -5.0, 3.0])
    batched = jax.vmap(model)(slips, rewards)
    for i, (slip, reward) in enumerate(zip(slips, rewards, strict=True)):
        lone = model(float(slip), float(reward))
        jax.tree.map(
            lambda b, x: np.testing.assert_allclose(b[i], x, rtol=1e-6, atol=1e-7),
            batched,
            lone,
        )
    # From cell 2, going right enters the pit unless the agent slips.
    np.testing.assert_allclose(
        batched.rewards[:, 2, RIGHT], (1 - slips) * rewards - 0.01 * slips, rtol=1e-5
    )
    slope = jax.grad(lambda reward: model(0.2, reward).rewards[2, RIGHT])(-1.0)
    np.testing.assert_allclose(slope, 0.8, rtol=1e-6)


def test_a_batch_of_grids_steps_as_each_alone(key):
    envs = GridWorld(SLIPPERY, slip=jnp.array([0.0, 0.5, 1.0]))
    axes = jax.tree.map(lambda leaf: 0 if np.ndim(leaf) else None, envs)
    keys = jax.random.split(key, 3)
    step = jax.vmap(lambda env, key: env.step(jnp.int32(6), UP, key), (axes, 0))
    batched, _ = jax.jit(step)(envs, keys)
    lone = [
        GridWorld(SLIPPERY, slip=slip).step(jnp.int32(6), UP, k)[0]
        for slip, k in zip((0.0, 0.5, 1.0), keys, strict=True)
    ]
    np.testing.assert_array_equal(batched, lone)
    assert batched[0] == 2
    assert batched[2] in (7, 6)  # cell 5, to the left, is a wall


def test_jit_changes_nothing(key):
    env = GridWorld(SLIPPERY, slip=0.4)
    arguments = (jnp.int32(0), jnp.int32(DOWN), key)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.jit(env.step)(*arguments),
        env.step(*arguments),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        jax.jit(env.to_mdp)(),
        env.to_mdp(),
    )


def test_x64_gives_doubles(x64):
    env = rljax.make("FrozenLake-4x4").env
    mdp = env.to_mdp()
    assert {mdp.transitions.dtype, mdp.rewards.dtype, mdp.initial.dtype} == {
        np.dtype(np.float64)
    }
    np.testing.assert_allclose(mdp.transitions[0, UP, 0], 2 / 3, rtol=1e-15)
    state, time_step = env.step(jnp.int32(0), DOWN, jax.random.key(0))
    assert (state.dtype, time_step.reward.dtype) == (np.int32, np.float64)
    listed = env.to_mdp(sparse=True).transitions
    assert (listed.next_states.dtype, listed.probabilities.dtype) == (
        np.int32,
        np.float64,
    )


# What is refused.


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: GridWorld(("..G",)), ValueError, r"no start \(A\)"),
        (lambda: GridWorld(("A..",)), ValueError, r"no goal \(G\)"),
        (lambda: GridWorld(("A.", "..G")), ValueError, r"one length, .* \[2, 3\]"),
        (lambda: GridWorld.from_text("A.\n\n.G"), ValueError, r"lengths \[0, 2\]"),
        (lambda: GridWorld(()), ValueError, "one length"),
        (lambda: GridWorld.from_text(""), ValueError, "one length"),
        (
            lambda: GridWorld(("A..", "..x", "..G")),
            ValueError,
            "unknown character 'x' in row 1, column 2; known are",
        ),
        (lambda: GridWorld(("AéG",)), ValueError, "'é' in row 0, column 1"),
        (lambda: GridWorld(("ACA", "..G")), ValueError, r"cliff \(C\) and 2 starts"),
        (
            lambda: GridWorld(slip=1.5),
            ValueError,
            r"GridWorld.slip must be in \[0, 1\]",
        ),
        (lambda: GridWorld(slip=-0.1), ValueError, "GridWorld.slip"),
        (lambda: GridWorld(slip=float("nan")), ValueError, "GridWorld.slip"),
        (lambda: GridWorld(slip="0.1"), TypeError, "GridWorld.slip"),
        (
            lambda: GridWorld(step_reward=float("nan")),
            ValueError,
            "GridWorld.step_reward must be finite",
        ),
        (lambda: GridWorld(goal_reward=float("inf")), ValueError, "goal_reward"),
        (lambda: GridWorld(cliff_reward=None), TypeError, "cliff_reward"),
        (lambda: GridWorld("A.G"), TypeError, r"For one string use GridWorld\.from_t"),
        (lambda: GridWorld((1, 2)), TypeError, "must be a tuple of rows"),
        (lambda: GridWorld(5), TypeError, "must be a tuple of rows"),
        (lambda: GridWorld.from_text(("A.", ".G")), TypeError, "text must be a string"),
        (
            lambda: GridWorld.from_text("AG", max_steps=0),
            ValueError,
            "max_steps must be at least 1",
        ),
    ],
)
def test_a_bad_map_or_setting_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (("AG#G",), r"goal at \(0, 3\) is unreachable from every start"),
        (("A.G", ".PP", "PPG"), r"goal at \(2, 2\) is unreachable"),  # behind pits
        (("AGG",), r"goal at \(0, 2\) is unreachable"),  # behind another goal
        (("AG", "##", "A."), r"no goal is reachable from the start at \(2, 0\)"),
    ],
)
def test_a_dead_end_is_warned_of(layout, message):
    with pytest.warns(UserWarning, match=message) as caught:
        GridWorld(layout)
    assert caught[0].filename == __file__


def test_a_goal_across_the_cliffs_edge_is_reachable():
    # Warnings are errors: this must not raise one.
    GridWorld(("A.G", "CCC"))
    GridWorld(("AP", ".G"))


@pytest.mark.parametrize("action", [-1, 4, np.int32(7)])
def test_an_action_out_of_range_is_refused(action, key):
    with pytest.raises(ValueError, match="GridWorld's action must lie in Discrete"):
        GridWorld().step(jnp.int32(0), action, key)


@functools.cache
def large():
    size = 300
    return GridWorld(
        ("A" + "." * (size - 1), *["." * size] * (size - 2), "." * (size - 1) + "G"),
        slip=0.1,
    )


@pytest.mark.parametrize(
    ("env", "states"),
    [
        (rljax.Gambler(goal=2**16), 65_537),
        (rljax.Catch(rows=10, columns=50), 25_000),
        (rljax.DeepSea(200), 40_001),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_dense_model_of_many_states_is_refused_with_the_remedy(env, states):
    message = rf"model of {states} states .* Use to_mdp\(sparse=True\)"
    with pytest.raises(ValueError, match=message):
        env.to_mdp()


def test_a_dense_model_of_many_cells_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"Use to_mdp\(sparse=True\)"):
        large().to_mdp()
    listed = large().to_mdp(sparse=True)
    assert listed.transitions.next_states.shape == (90_000, 4, 3)


def test_a_grid_can_be_replaced_in_part():
    env = dataclasses.replace(GridWorld(), slip=0.2)
    assert (env.slip, env.layout) == (0.2, GridWorld().layout)


def test_a_rare_slip_is_as_rare_as_it_says():
    env = GridWorld(SLIPPERY, slip=1e-7)
    cell, up = live_cells(env)[0], jnp.int32(0)
    after = [env.advance(cell, up, jnp.float32(u))[0] for u in (2e-8, 7e-8, 2e-7, 1)]
    sides = {int(env.advance(cell, jnp.int32(a), jnp.float32(1))[0]) for a in (2, 3)}
    ahead = int(GridWorld(SLIPPERY, slip=None).advance(cell, up, ())[0])
    assert {int(after[0]), int(after[1])} == sides
    assert [int(x) for x in after[2:]] == [ahead, ahead]
