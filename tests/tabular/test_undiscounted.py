"""Planning at γ = 1, against all policies of small MDPs and values known in advance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax import GridWorld
from rljax.tabular import planning
from rljax.tabular.planning.reachability import resting_states
from rljax.types import MDP
from tests.conftest import enable_x64
from tests.oracles import planning as oracle
from tests.tabular.test_planning import listed, stack

NUM_STATES, NUM_ACTIONS = 16, 4


def padded(transitions, rewards, terminal):
    """The same MDP with NUM_STATES states and, its own repeated, NUM_ACTIONS actions.

    The added states are terminal.
    """
    actions = np.arange(NUM_ACTIONS) % rewards.shape[1]
    more = NUM_STATES - len(terminal)
    transitions = np.pad(np.asarray(transitions, float), [(0, more), (0, 0), (0, more)])
    transitions[range(-more, 0), :, range(-more, 0)] = 1
    return (
        transitions[:, actions],
        np.pad(np.asarray(rewards, float), [(0, more), (0, 0)])[:, actions],
        np.pad(np.asarray(terminal), (0, more), constant_values=True),
    )


def moves(*rows):
    """An MDP of (next state, reward) for each action; the state after the last ends."""
    next_states, rewards = np.moveaxis(np.asarray(rows, float), 2, 0)
    num_states = len(rows) + 1
    transitions = np.eye(num_states)[next_states.astype(int)]
    end = np.eye(num_states)[[[-1, -1]]]
    return padded(
        np.concatenate([transitions, end]),
        np.concatenate([rewards, [[0.0, 0.0]]]),
        np.arange(num_states) == num_states - 1,
    )


def grid(text):
    rows = GridWorld.from_text(text, step_reward=0.0, pit_reward=0.0).to_mdp()
    return padded(*map(np.asarray, (rows.transitions, rows.rewards, rows.terminal)))


def random_arrays(seed):
    """Few successors and many ties; rewards are often 0, and of one sign or both."""
    rng = np.random.default_rng(seed)
    transitions = np.zeros((6, 2, 6))
    for row in transitions.reshape(-1, 6):
        count = rng.choice([1, 1, 2, 3])
        row[rng.choice(6, count, replace=False)] = rng.dirichlet(np.full(count, 3.0))
    kinds = [-2, -1, 0, 0], [0, 0, 0, 1, 2], [-2, -1, -1, 0, 0, 0, 1, 2]
    terminal = np.arange(6) >= 6 - rng.integers(1, 3)
    # What is written at a terminal state must not count.
    rewards = np.where(terminal[:, None], 7.0, rng.choice(kinds[seed % 3], (6, 2)))
    return transitions, rewards, terminal


# MDPs with the values of their first states.
LAKE = grid("A...\n.P.P\n...P\nP..G")
KNOWN = {
    "lake": (LAKE, ~LAKE[2]),
    "corridor": (grid("A..G"), [1, 1, 1, 0]),
    # A step that costs nothing leads to one that costs 10; one may rest instead.
    "rest": (moves([(1, 0), (0, 0)], [(2, -10), (2, -20)]), [0, -10]),
    # What pays 10 at first costs 20 at last.
    "lure": (moves([(1, 10), (0, 0)], [(2, -20), (2, -20)]), [0, -20]),
    "trap": (
        moves([(2, 5), (1, -1)], [(3, -1), (2, 9)], [(2, -1), (2, -2)]),
        [-2, -1, -np.inf],
    ),
    # A trap with rewards of both signs is worth what nobody asked.
    "unknown": (moves([(1, 5), (2, -1)], [(1, 1), (1, -1)]), [-1, np.nan]),
}


def to_mdp(arrays):
    return MDP(*arrays, np.eye(NUM_STATES)[0])


@functools.cache
def problems():
    """Arrays, γ, and V* at γ = 1, where it is bounded."""
    cases = [
        (arrays, 1.0, np.pad(np.array(first, float), (0, NUM_STATES - len(first))))
        for arrays, first in KNOWN.values()
    ]
    for seed in range(60):
        arrays = random_arrays(seed)
        best = oracle.best_total_reward(*arrays)
        if best is not None:
            cases.append((padded(*arrays), 1.0, np.pad(best, (0, NUM_STATES - 6))))
        if seed < 12:
            cases.append((padded(*arrays), 0.9, None))
    return cases


LIMIT = {"max_iterations": 5000}
METHODS = {
    "synchronous": functools.partial(planning.value_iteration, **LIMIT),
    "gauss_seidel": functools.partial(
        planning.value_iteration, method="gauss_seidel", **LIMIT
    ),
    "modified_policy_iteration": functools.partial(
        planning.modified_policy_iteration, **LIMIT
    ),
    "policy_iteration": lambda mdp, discount, _: planning.policy_iteration(
        mdp, discount
    ),
}


@functools.cache
def plans(method):
    """Plans of all problems, by one program, some of them of listed outcomes."""
    with enable_x64():
        mdps = [to_mdp(arrays) for arrays, _, _ in problems()]
        if method == "modified_policy_iteration":
            mdps = [listed(mdp) for mdp in mdps]
        discounts = jnp.array([discount for _, discount, _ in problems()])
        made = jax.vmap(METHODS[method], (0, 0, None))(stack(mdps), discounts, 1e-12)
        made = jax.tree.map(np.asarray, made)
    return [jax.tree.map(lambda leaf: leaf[i], made) for i in range(len(mdps))]


every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_values_are_the_best_total_rewards_and_the_policy_attains_them(method):
    num_negative, num_positive = 0, 0
    for (arrays, discount, best), plan in zip(problems(), plans(method), strict=True):
        if discount < 1:
            continue
        np.testing.assert_allclose(plan.values, best, rtol=1e-8, atol=1e-8)
        attained = oracle.total_reward(*arrays, plan.policy)
        known = ~np.isnan(best)
        np.testing.assert_allclose(attained[known], best[known], rtol=1e-8, atol=1e-8)
        if np.isfinite(best).all():
            q = oracle.q_values(*arrays, best, 1.0)
            np.testing.assert_allclose(plan.q_values, q, rtol=1e-7, atol=1e-7)
        else:
            assert np.isinf(plan.error_bound)
        num_negative += (best < 0).any()
        num_positive += (best > 0).any()
    assert min(num_negative, num_positive) > 15


@every_method
def test_a_bound_of_0_is_claimed_where_the_goal_is_reached(method):
    for name, plan in zip(KNOWN, plans(method), strict=False):
        if name in ("lake", "corridor"):
            assert plan.error_bound == 0, name


@every_method
def test_below_1_in_the_same_batch_ties_go_to_the_lowest_action(method):
    num_ties = 0
    for (arrays, discount, _), plan in zip(problems(), plans(method), strict=True):
        if discount == 1:
            continue
        assert oracle.optimality_gap(*arrays, plan.values, discount) < 1e-10
        np.testing.assert_array_equal(plan.policy, plan.q_values.argmax(-1))
        ties = plan.q_values == plan.q_values.max(-1, keepdims=True)
        num_ties += (ties[:6, :2].sum(-1) > 1).sum()
    assert num_ties > 20


def test_rewards_that_can_be_gained_for_ever_are_worth_infinity():
    arrays = moves([(1, 1), (0, 2)], [(2, 5), (1, 0)])
    plan = planning.policy_iteration(to_mdp(arrays), 1.0)
    np.testing.assert_array_equal(plan.values[:3], [np.inf, 5, 0])
    attained = oracle.total_reward(*arrays, np.asarray(plan.policy))
    np.testing.assert_array_equal(attained[:3], [np.inf, 5, 0])
    assert np.isinf(plan.error_bound)


def test_small_rewards_are_told_apart_beside_infinite_values():
    # What is infinite says nothing of how the finite values round.
    arrays = moves([(0, -1), (0, -2)], [(2, 1e-9), (2, 2e-9)])
    first = jnp.zeros(NUM_STATES, jnp.int32)
    plan = planning.policy_evaluation(to_mdp(arrays), first, 1.0)
    np.testing.assert_allclose(plan.values[:3], [-np.inf, 1e-9, 0], rtol=1e-6)
    assert plan.policy[1] == 1  # the better action, which the greedy policy takes


def test_the_gambler_plays_as_well_as_boldly(x64):
    # Sutton and Barto (2018), example 4.3. A stake of 0 is as good as any other.
    p, capital, stakes = 0.4, np.arange(101)[:, None], np.arange(51)
    stakes = np.minimum(stakes, np.minimum(capital, 100 - capital))
    transitions = p * np.eye(101)[capital + stakes]
    transitions += (1 - p) * np.eye(101)[capital - stakes]
    rewards = np.where(capital + stakes == 100, p, 0.0) * (stakes > 0)
    arrays = (transitions, rewards, np.isin(np.arange(101), [0, 100]))
    plan = planning.value_iteration(MDP(*arrays, np.eye(101)[50]), 1.0, 1e-13)
    # To stake all that one has or needs is optimal (Dubins and Savage, 1965).
    bold = oracle.total_reward(*arrays, np.full(101, 50))
    np.testing.assert_allclose(bold[[25, 50, 75]], [0.16, 0.4, 0.64], rtol=1e-12)
    np.testing.assert_allclose(plan.values, bold, rtol=0, atol=1e-10)
    attained = oracle.total_reward(*arrays, np.asarray(plan.policy))
    np.testing.assert_allclose(attained, bold, rtol=0, atol=1e-10)


# Given policies.

CHAINS = {
    "a cost for ever": (moves([(0, -0.01)] * 2), [-np.inf]),
    "a gain for ever": (moves([(1, 0)] * 2, [(0, 1)] * 2), [np.inf, np.inf]),
    "+1 and −1 in turn": (moves([(1, 1)] * 2, [(0, -1)] * 2), [np.nan, np.nan]),
    "two actions at random": (moves([(0, 1), (0, -1)]), [np.nan]),
    "a gain, then rest": (moves([(1, 1)] * 2, [(1, 0)] * 2), [1, 0]),
    "an end in half the cases": (moves([(0, -1), (1, 3)]), [2]),
    "an end or a cost for ever": (
        moves([(1, 9), (2, 9)], [(1, -1)] * 2),
        [-np.inf] * 2,
    ),
    "a gain for ever or a cost": (
        moves([(1, 0), (2, 0)], [(1, -1)] * 2, [(2, 1)] * 2),
        [np.nan, -np.inf, np.inf],
    ),
}


@functools.cache
def chains():
    """Arrays, a policy [S, A], and V^π at γ = 1."""
    cases = []
    for arrays, first in CHAINS.values():
        values = np.pad(np.array(first, float), (0, NUM_STATES - len(first)))
        cases.append((arrays, np.full((NUM_STATES, NUM_ACTIONS), 0.25), values))
    for seed in range(40):
        arrays = padded(*random_arrays(seed))
        rng = np.random.default_rng(seed)
        policy = rng.dirichlet(np.ones(NUM_ACTIONS), NUM_STATES)
        sure = rng.random(NUM_STATES) < 0.7
        policy[sure] = np.eye(NUM_ACTIONS)[rng.integers(NUM_ACTIONS, size=sure.sum())]
        cases.append((arrays, policy, oracle.total_reward(*arrays, policy)))
    return cases


@pytest.mark.parametrize("method", ["solve", "iterative"])
def test_a_policy_may_be_worth_infinity_or_nobody_knows_what(method):
    chains = [CHAINS["a gain for ever or a cost"], CHAINS["a gain, then rest"]]
    mdp = stack([to_mdp(arrays) for arrays, _ in chains])
    policy = jnp.full((NUM_STATES, NUM_ACTIONS), 0.25)

    def evaluate(mdp):
        return planning.policy_evaluation(mdp, policy, 1.0, method=method)

    plan = jax.vmap(evaluate)(mdp)
    for (_, values), found in zip(chains, plan.values, strict=True):
        np.testing.assert_allclose(found[: len(values)], values)
    assert np.isinf(plan.error_bound[0])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["solve", "iterative"])
def test_policies_are_worth_their_total_rewards(x64, method):
    arrays, policies, values = zip(*chains(), strict=True)
    mdps = [to_mdp(array) for array in arrays]
    if method == "iterative":
        mdps = [listed(mdp) for mdp in mdps]
    evaluate = functools.partial(
        planning.policy_evaluation, method=method, tolerance=1e-13, **LIMIT
    )
    made = jax.vmap(evaluate, (0, 0, None))(stack(mdps), jnp.stack(policies), 1.0)
    np.testing.assert_allclose(made.values, values, rtol=1e-9, atol=1e-9)
    infinite = ~np.isfinite(values).all(-1)
    assert np.isinf(made.error_bound[infinite]).all()
    assert infinite.sum() > 10
    assert (~infinite).sum() > 10
    # Of values that are not finite, only those of possible starts count.
    for mdp, value in zip(mdps, made.values, strict=True):
        np.testing.assert_array_equal(planning.initial_value(mdp, value), value[0])


def test_only_what_may_be_done_is_a_way_to_rest():
    """Two states of which only one may rest, as resting is not allowed in the other."""
    stay = np.eye(2)[:, None].repeat(2, axis=1)
    mdp = MDP(stay, [[0.0, 1.0], [0.0, 1.0]], [False, False], [1.0, 0.0])
    allowed = jnp.array([[True, True], [False, True]])
    everywhere, active = jnp.ones(2, bool), jnp.array(True)
    states, actions = resting_states(mdp, allowed, everywhere, active)
    np.testing.assert_array_equal(states, [True, False])
    np.testing.assert_array_equal(actions, [[True, False], [False, False]])
    states, _ = resting_states(mdp, jnp.ones((2, 2), bool), everywhere, active)
    assert states.all()
