"""Planning against loops in NumPy, linear algebra, and its own theorems."""

import dataclasses
import functools
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import GridWorld
from rljax.tabular import planning
from rljax.types import MDP, SparseTransitions
from tests.conftest import enable_x64
from tests.oracles import planning as oracle

DISCOUNT = 0.99
# Seven moves of −0.01 and one of 1: 0.864131.
FROM_THE_START = -0.01 * sum(DISCOUNT**k for k in range(7)) + DISCOUNT**7


def random_arrays(seed, num_states, num_actions, ends=0.2):
    """P, R and terminal; the rows of terminal states hold numbers like any others."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.full(num_states, 0.3), (num_states, num_actions))
    transitions /= transitions.sum(-1, keepdims=True)
    rewards = rng.normal(size=(num_states, num_actions))
    return transitions, rewards, rng.random(num_states) < ends


def make_mdp(transitions, rewards, terminal):
    num_states = len(terminal)
    start = np.arange(1, num_states + 1) / np.arange(1, num_states + 1).sum()
    return MDP(transitions, rewards, terminal, start)


def stack(mdps):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *mdps)


def listed(mdp):
    """The same MDP with every successor listed, in halves and from the last on."""
    shape = mdp.transitions.shape
    successors = np.broadcast_to(np.arange(shape[2])[::-1], shape)
    twice = SparseTransitions(
        jnp.asarray(np.concatenate([successors] * 2, -1), jnp.int32),
        jnp.concatenate([mdp.transitions[..., ::-1] / 2] * 2, -1),
    )
    return dataclasses.replace(mdp, transitions=twice)


# 20 random MDPs.
CASES = [
    (seed, *case)
    for case in [(1, 1, 0.5), (7, 2, 0.0), (7, 2, 0.9), (12, 4, 0.99)]
    for seed in range(5)
]
RANDOM = pytest.mark.parametrize(
    ("seed", "num_states", "num_actions", "discount"), CASES
)

METHODS = {
    "synchronous": lambda mdp, discount: planning.value_iteration(mdp, discount, 1e-13),
    "gauss_seidel": lambda mdp, discount: planning.value_iteration(
        mdp, discount, 1e-13, method="gauss_seidel"
    ),
    "policy_iteration": planning.policy_iteration,
    "modified_policy_iteration": lambda mdp, discount: (
        planning.modified_policy_iteration(mdp, discount, 1e-13)
    ),
}
every_method = pytest.mark.parametrize("method", METHODS)


def check_optimal(plan, arrays, discount):
    """Its policy solved by NumPy has its values, and no action betters them."""
    policy = np.asarray(plan.policy)
    values = oracle.policy_evaluation(*arrays, policy, discount)
    np.testing.assert_allclose(plan.values, values, rtol=1e-10, atol=1e-10)
    assert oracle.optimality_gap(*arrays, values, discount) < 1e-10
    np.testing.assert_allclose(
        plan.q_values,
        oracle.q_values(*arrays, values, discount),
        rtol=1e-10,
        atol=1e-10,
    )


# The published grid.


@every_method
def test_the_start_of_the_5x5_map_is_worth_its_closed_form(method):
    calls = {
        "synchronous": planning.value_iteration,
        "gauss_seidel": functools.partial(
            planning.value_iteration, method="gauss_seidel"
        ),
        "policy_iteration": planning.policy_iteration,
        "modified_policy_iteration": planning.modified_policy_iteration,
    }
    plan = calls[method](GridWorld().to_mdp(), DISCOUNT)
    assert plan.values.dtype == np.float32
    np.testing.assert_allclose(plan.values[0], FROM_THE_START, rtol=0, atol=1e-6)
    with enable_x64():
        plan = calls[method](GridWorld().to_mdp(), DISCOUNT)
        assert plan.values.dtype == np.float64
        np.testing.assert_allclose(plan.values[0], FROM_THE_START, rtol=0, atol=1e-12)
        check_optimal(plan, oracle.grid_5x5(), DISCOUNT)


def test_value_iteration_as_published_gives_the_same_values_and_policy(x64):
    history, changes, policy = oracle.gauss_seidel(*oracle.grid_5x5())
    plan = planning.value_iteration(GridWorld().to_mdp(), 0.99, method="gauss_seidel")
    np.testing.assert_allclose(plan.values, history[-1], rtol=1e-14)
    assert plan.num_iterations == len(changes)
    np.testing.assert_array_equal(plan.policy, policy)
    np.testing.assert_allclose(history[-1][0], FROM_THE_START, rtol=1e-14)


@jax.jit
def moves_to_the_end(env, policy, cell):
    """Steps to the end of an episode, at most 25."""

    def step(carry):
        cell, moves, _ = carry
        cell, time_step = env.advance(cell, policy[cell], ())
        return cell, moves + 1, time_step.terminated

    def going(carry):
        return ~carry[2] & (carry[1] < 25)

    return jax.lax.while_loop(going, step, (cell, 0, jnp.bool_(False)))[1]


@every_method
def test_the_greedy_policy_walks_shortest_paths(method):
    mdp = GridWorld().to_mdp()
    policy = METHODS[method](mdp, DISCOUNT).policy
    # On this map the walls lengthen no way to the goal.
    cells = np.flatnonzero(~np.asarray(mdp.terminal))
    assert len(cells) == 19
    for cell in cells:
        row, column = divmod(int(cell), 5)
        moves = moves_to_the_end(GridWorld(), policy, jnp.int32(cell))
        assert moves == 8 - row - column


@pytest.mark.parametrize("method", ["synchronous", "gauss_seidel"])
def test_without_discount_an_episodic_grid_counts_its_steps(method):
    plan = planning.value_iteration(GridWorld().to_mdp(), 1.0, method=method)
    np.testing.assert_allclose(plan.values[0], 1 - 0.07, rtol=1e-6)
    assert plan.num_iterations <= 10
    assert plan.residual == 0
    assert plan.error_bound == 0
    slippery = planning.value_iteration(
        GridWorld(slip=0.3).to_mdp(), 1.0, method=method
    )
    assert jnp.isinf(slippery.error_bound)
    assert slippery.residual < 1e-6
    evaluated = planning.policy_evaluation(
        GridWorld(slip=0.3).to_mdp(), slippery.policy, 1.0, method="iterative"
    )
    np.testing.assert_allclose(evaluated.values, slippery.values, atol=1e-4)


# Random MDPs against NumPy.


@every_method
@RANDOM
def test_plans_solve_random_mdps(x64, seed, num_states, num_actions, discount, method):
    arrays = random_arrays(seed, num_states, num_actions)
    check_optimal(METHODS[method](make_mdp(*arrays), discount), arrays, discount)


@RANDOM
def test_gauss_seidel_equals_the_loops_sweep_by_sweep(
    x64, seed, num_states, num_actions, discount
):
    arrays = random_arrays(seed, num_states, num_actions)
    mdp = make_mdp(*arrays)
    history, changes, policy = oracle.gauss_seidel(*arrays, discount, theta=1e-6)
    # A tolerance between two sweeps' changes stops at the later one.
    for k in range(1, len(changes) + 1):
        before = changes[k - 2] if k > 1 else 1e3
        plan = planning.value_iteration(
            mdp, discount, (before + changes[k - 1]) / 2, method="gauss_seidel"
        )
        assert plan.num_iterations == k
        np.testing.assert_allclose(plan.values, history[k - 1], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(plan.residual, changes[k - 1], rtol=1e-6, atol=1e-14)
    plan = planning.value_iteration(mdp, discount, method="gauss_seidel")
    assert plan.num_iterations == len(changes)
    np.testing.assert_array_equal(plan.policy, policy)


def stochastic_policy(seed, num_states, num_actions):
    rng = np.random.default_rng(100 + seed)
    return rng.dirichlet(np.ones(num_actions), num_states)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["actions", "probabilities"])
@pytest.mark.parametrize("transitions", ["dense", "sparse"])
@RANDOM
def test_policies_are_evaluated_as_numpy_solves(
    x64, seed, num_states, num_actions, discount, transitions, kind
):
    arrays = random_arrays(seed, num_states, num_actions)
    mdp = make_mdp(*arrays)
    if transitions == "sparse":
        mdp = listed(mdp)
    policy = stochastic_policy(seed, num_states, num_actions)
    if kind == "actions":
        policy = policy.argmax(-1)
    expected = oracle.policy_evaluation(*arrays, policy, discount)
    solved = planning.policy_evaluation(mdp, policy, discount)
    swept = planning.policy_evaluation(
        mdp, policy, discount, method="iterative", tolerance=1e-13
    )
    for plan in (solved, swept):
        np.testing.assert_allclose(plan.values, expected, rtol=1e-10, atol=1e-10)
        q = oracle.q_values(*arrays, expected, discount)
        np.testing.assert_allclose(plan.q_values, q, rtol=1e-10, atol=1e-10)
        np.testing.assert_array_equal(plan.policy, q.argmax(-1))
    for method in ("solve", "iterative"):
        expected_return = planning.expected_return(
            mdp, policy, discount, method=method, tolerance=1e-13
        )
        np.testing.assert_allclose(
            expected_return, mdp.initial @ expected, rtol=1e-10, atol=1e-10
        )


@every_method
def test_listed_outcomes_plan_as_the_dense_model(x64, method):
    for seed in range(3):
        arrays = random_arrays(seed, 7, 2)
        sparse = METHODS[method](listed(make_mdp(*arrays)), 0.9)
        check_optimal(sparse, arrays, 0.9)
    grid = GridWorld(slip=0.2)
    np.testing.assert_allclose(
        METHODS[method](grid.to_mdp(sparse=True), 0.99).values,
        METHODS[method](grid.to_mdp(), 0.99).values,
        rtol=1e-10,
        atol=1e-10,
    )
    mdp, values = make_mdp(*random_arrays(0, 7, 2)), np.arange(7.0)
    np.testing.assert_allclose(
        planning.q_values(listed(mdp), values, 0.9),
        planning.q_values(mdp, values, 0.9),
        rtol=1e-12,
    )


def test_q_values_do_not_look_at_the_values_of_terminal_states(x64):
    arrays = random_arrays(0, 12, 4)
    assert arrays[2].any()
    values = np.arange(12.0)
    q = planning.q_values(make_mdp(*arrays), values, 0.9)
    np.testing.assert_allclose(
        q, oracle.q_values(*arrays, values, 0.9), rtol=1e-12, atol=1e-12
    )
    values[arrays[2]] = 1e6
    np.testing.assert_array_equal(q, planning.q_values(make_mdp(*arrays), values, 0.9))


# Theorems, at every sweep.

THEOREM_DISCOUNTS = np.repeat([0.0, 0.3, 0.9, 0.99], 4)
LOOPS = slice(3, None, 4)


@functools.cache
def theorem_arrays():
    """16 MDPs, four for each discount, the last one a loop that holds all bounds."""
    arrays = [random_arrays(seed, 9, 3, ends=0.1) for seed in range(16)]
    # Each state leads to itself and pays 1: V_k = (1 − γ^k) / (1 − γ).
    stay = np.tile(np.eye(9)[:, None], (1, 3, 1))
    loop = (stay, np.ones((9, 3)), np.zeros(9, bool))
    arrays[LOOPS] = [loop] * 4
    return arrays


def stacked():
    return stack([make_mdp(*arrays) for arrays in theorem_arrays()])


def up_to_iteration(plan, number):
    """[number] plans of the 16 MDPs after k = 1, 2, … iterations."""
    return [
        jax.vmap(lambda mdp, g: plan(mdp, g, max_iterations=k))(
            stacked(), THEOREM_DISCOUNTS
        )
        for k in range(1, number + 1)
    ]


def sweep_by_sweep(plan, number=30):
    """The same of sweeps that contract, without a new compilation for every k.

    A sweep that changes less than the one before is what the theorem promises, so with
    the last change as the tolerance an iteration stops one sweep later.
    """
    mdps, tolerances, plans = stacked(), jnp.full(16, 1e3), []
    one_more = jax.jit(jax.vmap(plan))
    for k in range(1, number + 1):
        plans.append(one_more(mdps, THEOREM_DISCOUNTS, tolerances))
        tolerances = jnp.maximum(plans[-1].residual, 1e-12)
        at_work = THEOREM_DISCOUNTS > 0.5  # the others reach 1e-12 before
        assert (plans[-1].num_iterations[at_work] == k).all()
    return plans


@functools.cache
def optimal_values():
    values = []
    for arrays, discount in zip(theorem_arrays(), THEOREM_DISCOUNTS, strict=True):
        policy = planning.policy_iteration(make_mdp(*arrays), discount).policy
        solved = oracle.policy_evaluation(*arrays, np.asarray(policy), discount)
        # NumPy's own certificate that these are the optimal values.
        assert oracle.optimality_gap(*arrays, solved, discount) < 1e-12
        values.append(solved)
    return np.stack(values)


UNIFORM = np.full((9, 3), 1 / 3)


def uniform_values():
    return np.stack(
        [
            oracle.policy_evaluation(*arrays, UNIFORM, discount)
            for arrays, discount in zip(
                theorem_arrays(), THEOREM_DISCOUNTS, strict=True
            )
        ]
    )


SWEEPS = {
    "synchronous": planning.value_iteration,
    "gauss_seidel": functools.partial(planning.value_iteration, method="gauss_seidel"),
    "policy_evaluation": lambda mdp, discount, tolerance: planning.policy_evaluation(
        mdp, UNIFORM, discount, method="iterative", tolerance=tolerance
    ),
}
IMPROVEMENTS = {
    "modified_policy_iteration": functools.partial(
        planning.modified_policy_iteration, tolerance=1e-12
    ),
    "modified_policy_iteration of 3 sweeps": functools.partial(
        planning.modified_policy_iteration, tolerance=1e-12, num_sweeps=3
    ),
    "policy_iteration": planning.policy_iteration,
}


@functools.cache
def run_of(name):
    """A plan whose leaves have leading [iteration, MDP]."""
    with enable_x64():
        if name in SWEEPS:
            plans = sweep_by_sweep(SWEEPS[name])
        else:
            plans = up_to_iteration(IMPROVEMENTS[name], 4)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *plans)


@pytest.mark.parametrize("name", SWEEPS)
def test_the_residual_contracts_by_the_discount_at_every_sweep(name, record_property):
    residuals = run_of(name).residual
    assert (residuals[0] > 0.1).all()
    allowed = THEOREM_DISCOUNTS * residuals[:-1] * (1 + 1e-12) + 1e-13
    # Fast MDPs have stopped below 1e-12.
    assert ((residuals[1:] <= allowed) | (residuals[:-1] <= 1e-12)).all()
    counted = residuals[:-1] > 1e-6
    rates = residuals[1:][counted] / residuals[:-1][counted]
    discounts = np.broadcast_to(THEOREM_DISCOUNTS, counted.shape)[counted]
    # The theorem is no more than true: a loop contracts by γ and no faster.
    loops = np.zeros(counted.shape, bool)
    loops[:, LOOPS] = True
    np.testing.assert_allclose(
        rates[loops[counted]], discounts[loops[counted]], atol=1e-8
    )
    ratios = (rates[discounts > 0] / discounts[discounts > 0]).round(9)
    record_property(
        "evidence",
        f"{name}: residual_k / (γ residual_k−1) over {ratios.size} sweeps: largest "
        f"{ratios.max():.6f}, median {np.median(ratios):.3f}",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SWEEPS, *IMPROVEMENTS])
def test_the_error_bound_holds_at_every_iteration(name, x64, record_property):
    plans = run_of(name)
    true = uniform_values() if name == "policy_evaluation" else optimal_values()
    errors = np.abs(plans.values - true).max(-1)
    rounding = 1e-13 * np.abs(true).max(-1)
    assert (errors <= plans.error_bound + rounding).all()
    # It is the residual's, not just a large number; and on a loop it is the error.
    factor = (THEOREM_DISCOUNTS if name in SWEEPS else 1) / (1 - THEOREM_DISCOUNTS)
    np.testing.assert_allclose(plans.error_bound, factor * plans.residual, rtol=1e-9)
    np.testing.assert_allclose(
        plans.error_bound[:, LOOPS], errors[:, LOOPS], rtol=1e-6, atol=1e-9
    )
    counted = errors > 1e6 * rounding
    shares = errors[counted] / plans.error_bound[counted]
    record_property(
        "evidence",
        f"{name}: error / error_bound over {shares.size} iterations: largest "
        f"{shares.max():.6f}, median {np.median(shares):.3f}",
    )


def test_modified_policy_iteration_of_one_sweep_is_value_iteration(x64):
    mdp = make_mdp(*random_arrays(0, 9, 3))
    for k in (1, 4):
        np.testing.assert_allclose(
            planning.modified_policy_iteration(
                mdp, 0.9, 1e-12, num_sweeps=1, max_iterations=k
            ).values,
            planning.value_iteration(mdp, 0.9, 1e-12, max_iterations=k).values,
            rtol=1e-12,
        )


def test_policy_iteration_only_improves():
    plans = run_of("policy_iteration")
    assert (np.diff(plans.values, axis=0) >= -1e-10).all()
    assert plans.num_iterations.max() > 2


# Ties and rounding.


@every_method
def test_ties_go_to_the_lowest_action(method):
    # Actions 1 and 2 are the same and better than 0 and 3.
    transitions = np.tile(np.eye(4)[[1, 2, 3, 3]][:, None], (1, 4, 1))
    rewards = np.tile([0.0, 1.0, 1.0, 0.5], (4, 1))
    terminal = np.array([False, False, False, True])
    plan = METHODS[method](make_mdp(transitions, rewards, terminal), 0.9)
    np.testing.assert_array_equal(plan.policy, [1, 1, 1, 0])
    np.testing.assert_allclose(plan.values, [2.71, 1.9, 1.0, 0.0], rtol=1e-6)


ENDLESS = {
    **{
        name: functools.partial(planning.value_iteration, method=name)
        for name in ("synchronous", "gauss_seidel")
    },
    "policy_evaluation": lambda mdp, discount, tolerance, **limits: (
        planning.policy_evaluation(
            mdp,
            jnp.zeros(mdp.num_states, int),
            discount,
            method="iterative",
            tolerance=tolerance,
            **limits,
        )
    ),
    "modified_policy_iteration": planning.modified_policy_iteration,
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("tolerance", [1e-6, 1e-30])
def test_a_tolerance_below_rounding_still_stops(name, tolerance, record_property):
    # Values of about 100 in float32: their rounding unit is 8e-6.
    mdps, num_mdps = [], 150
    for seed in range(num_mdps):
        transitions, rewards, terminal = random_arrays(seed, 12, 2, ends=0)
        mdp = make_mdp(transitions, 10 * rewards, terminal)
        mdps.append(mdp)
    limit = 2000
    plan = jax.vmap(
        lambda mdp: ENDLESS[name](mdp, 0.9, tolerance, max_iterations=limit)
    )(stack(mdps))
    assert plan.values.dtype == np.float32
    endless = int((plan.num_iterations == limit).sum())
    record_property(
        "evidence",
        f"{name} in float32, tolerance {tolerance:g}: at most "
        f"{plan.num_iterations.max()} iterations, {endless} of {num_mdps} endless",
    )
    assert endless == 0
    assert plan.residual.max() < 1e-4


def test_no_rewards_stop_at_once():
    transitions, rewards, terminal = random_arrays(0, 5, 2)
    mdp = make_mdp(transitions, 0 * rewards, terminal)
    for tolerance in (1e-6, 1e-50):  # the second one is 0 in float32
        plan = planning.value_iteration(mdp, 0.9, tolerance)
        np.testing.assert_array_equal(plan.values, 0.0)
        assert plan.num_iterations <= 2


# Transformations.


@pytest.mark.slow
@every_method
def test_a_batch_of_discounts_or_mdps_is_each_alone(x64, method):
    plan = jax.jit(METHODS[method])
    discounts = jnp.array([0.0, 0.5, 0.9])
    mdps = [make_mdp(*random_arrays(seed, 7, 2)) for seed in range(3)]
    by_discount = jax.vmap(plan, (None, 0))(mdps[0], discounts)
    by_mdp = jax.vmap(plan, (0, None))(stack(mdps), 0.9)
    for i in range(3):
        for batched, lone in (
            (by_discount, plan(mdps[0], discounts[i])),
            (by_mdp, plan(mdps[i], 0.9)),
        ):
            alike = jax.tree.map(lambda leaf: leaf[i], batched)
            assert alike.num_iterations == lone.num_iterations
            np.testing.assert_array_equal(alike.policy, lone.policy)
            np.testing.assert_allclose(
                alike.values, lone.values, rtol=1e-12, atol=1e-12
            )
            np.testing.assert_allclose(
                alike.q_values, lone.q_values, rtol=1e-12, atol=1e-12
            )
            # Of the order of the tolerance, from values that round at 1e-16.
            np.testing.assert_allclose(
                alike.error_bound, lone.error_bound, rtol=1e-2, atol=1e-13
            )


def test_a_batch_of_policies_is_each_alone(x64):
    mdp = make_mdp(*random_arrays(0, 7, 2))
    policies = jnp.stack([jnp.asarray(stochastic_policy(s, 7, 2)) for s in range(3)])
    expected = jax.jit(planning.expected_return)
    batched = jax.vmap(expected, (None, 0, None))(mdp, policies, 0.9)
    for i in range(3):
        np.testing.assert_allclose(batched[i], expected(mdp, policies[i], 0.9))
    assert len(np.unique(batched)) == 3


# The default method is exact; the gradient of a while loop does not exist.
@pytest.mark.slow
def test_gradients_of_the_expected_return_match_central_differences(x64):
    mdp = make_mdp(*random_arrays(3, 7, 2))
    policy = jnp.asarray(stochastic_policy(3, 7, 2))
    directions = np.random.default_rng(0).normal(size=(2, 7, 2))

    def along(parameters):
        rewards, tilt, discount = parameters
        moved = dataclasses.replace(mdp, rewards=mdp.rewards + rewards * directions[0])
        # Along the simplex, so that it stays a policy.
        step = directions[1] - directions[1].mean(-1, keepdims=True)
        return planning.expected_return(moved, policy + tilt * step, discount)

    point, step = jnp.array([0.0, 0.0, 0.9]), 1e-6
    gradient = jax.jit(jax.grad(along))(point)
    for i in range(3):
        shift = step * jnp.eye(3)[i]
        # Under jit, a tilted policy is not held against the simplex's bounds.
        ends = jax.jit(jax.vmap(along))(jnp.stack([point + shift, point - shift]))
        np.testing.assert_allclose(
            gradient[i], (ends[0] - ends[1]) / (2 * step), rtol=1e-7
        )
    assert (jnp.abs(gradient) > 1e-2).all()


def test_the_gradients_by_rewards_and_transitions_are_those_of_the_occupancy(x64):
    arrays = random_arrays(1, 7, 2)
    mdp, policy = make_mdp(*arrays), stochastic_policy(1, 7, 2)

    def expected(rewards, transitions):
        moved = dataclasses.replace(mdp, rewards=rewards, transitions=transitions)
        return planning.expected_return(moved, policy, 0.9)

    # Σ_t γ^t P(s_t = s) solves d = ρ + γ P_πᵀ d, with the terminal rows of P at 0.
    live = ~arrays[2]
    chain = np.einsum("sa,sat->st", policy, arrays[0]) * live[:, None]
    visits = np.linalg.solve(np.eye(7) - 0.9 * chain.T, mdp.initial)
    occupancy = (visits * live)[:, None] * policy
    by_rewards, by_transitions = jax.grad(expected, (0, 1))(
        mdp.rewards, mdp.transitions
    )
    np.testing.assert_allclose(by_rewards, occupancy, rtol=1e-10, atol=1e-12)
    # Each visit of s and a is followed by s' the more often, which is worth γ V(s').
    rewards = np.sum(policy * arrays[1], axis=1) * live
    values = np.linalg.solve(np.eye(7) - 0.9 * chain, rewards)
    np.testing.assert_allclose(
        by_transitions, 0.9 * occupancy[..., None] * values, rtol=1e-10, atol=1e-12
    )


# Size.


@pytest.mark.slow
def test_a_large_sparse_grid_is_planned_without_a_dense_model(record_property):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    size = 300
    grid = GridWorld(
        ("A" + "." * (size - 1), *["." * size] * (size - 2), "." * (size - 1) + "G"),
        slip=0.1,
    )
    mdp = grid.to_mdp(sparse=True)
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(mdp))
    plan = planning.value_iteration(mdp, 0.99, 1e-5)
    plan.values.block_until_ready()
    seconds = time.perf_counter() - began
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    record_property(
        "evidence",
        f"300×300 grid, slip 0.1: model {num_bytes / 1e6:.1f} MB, planned in "
        f"{seconds:.1f} s and {plan.num_iterations} sweeps, peak memory "
        f"+{growth:.0f} MB",
    )
    assert num_bytes < 20e6
    assert growth < 1000  # a dense model would take 130 GB
    assert plan.residual < 1e-5
    # Bellman's equation in doubles, by NumPy.
    values = np.asarray(plan.values, float)
    assert not values[mdp.terminal].any()
    successors = values[np.asarray(mdp.transitions.next_states)]
    expected = (np.asarray(mdp.transitions.probabilities) * successors).sum(-1)
    backed_up = (np.asarray(mdp.rewards) + 0.99 * expected).max(-1)
    gap = np.abs(backed_up - values)[~np.asarray(mdp.terminal)]
    assert gap.max() < 2e-5
    # Beside the goal it pays to walk in; the start is 598 moves away.
    assert plan.policy[size * size - 2] == 3
    assert values[0] < values[size * size // 2] < values[size * size - 2]


def test_too_many_states_to_solve_are_refused_with_the_remedy():
    num_states = 10_001
    chain = np.minimum(np.arange(num_states) + 1, num_states - 1)[:, None, None]
    ones = np.ones((num_states, 1, 1), np.float32)
    mdp = MDP(
        SparseTransitions(chain, ones),
        ones[..., 0],
        np.arange(num_states) == num_states - 1,
        np.eye(1, num_states)[0],
    )
    policy = jnp.zeros(num_states, int)
    for call in (
        lambda: planning.policy_iteration(mdp, 0.9),
        lambda: planning.policy_evaluation(mdp, policy, 0.9),
        lambda: planning.expected_return(mdp, policy, 0.9),
    ):
        with pytest.raises(ValueError, match="modified_policy_iteration"):
            call()
    plan = planning.policy_evaluation(mdp, policy, 0.5, method="iterative")
    np.testing.assert_allclose(plan.values[:3], 2.0, rtol=1e-5)


# What is refused.

SMALL = random_arrays(0, 3, 2)


def small():
    return make_mdp(*SMALL)


ANY_POLICY = np.zeros(3, int)


@pytest.mark.parametrize(
    "call",
    [
        lambda mdp, discount: planning.value_iteration(mdp, discount),
        lambda mdp, discount: planning.policy_iteration(mdp, discount),
        lambda mdp, discount: planning.modified_policy_iteration(mdp, discount),
        lambda mdp, discount: planning.policy_evaluation(mdp, ANY_POLICY, discount),
        lambda mdp, discount: planning.expected_return(mdp, ANY_POLICY, discount),
    ],
    ids=["value", "policy", "modified", "evaluation", "return"],
)
def test_what_is_no_mdp_or_discount_is_refused(call):
    for wrong in (GridWorld(), SMALL, None):
        with pytest.raises(TypeError, match=r"mdp must be an rljax\.types\.MDP"):
            call(wrong, 0.9)
    with pytest.raises(ValueError, match="vmap over stacked MDPs"):
        call(stack([small()] * 2), 0.9)
    for discount in (-0.1, 1.1, float("nan"), np.float32(2)):
        with pytest.raises(ValueError, match=r"discount must be in \[0, 1\], got"):
            call(small(), discount)
    for discount in (None, "0.9", [0.9], jnp.array([0.5, 0.9])):
        with pytest.raises(TypeError, match="discount must be one number"):
            call(small(), discount)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: planning.value_iteration(small(), 0.9, 0.0),
            ValueError,
            "tolerance must be a positive number, got 0.0",
        ),
        (
            lambda: planning.modified_policy_iteration(small(), 0.9, -1e-6),
            ValueError,
            "tolerance must be a positive number",
        ),
        (
            lambda: planning.policy_evaluation(
                small(), ANY_POLICY, 0.9, method="iterative", tolerance=np.nan
            ),
            ValueError,
            "tolerance must be",
        ),
        (
            lambda: planning.value_iteration(small(), 0.9, method="fast"),
            ValueError,
            "'synchronous' or 'gauss_seidel', got 'fast'",
        ),
        (
            lambda: planning.policy_evaluation(small(), ANY_POLICY, 0.9, method="lu"),
            ValueError,
            "'solve' or 'iterative', got 'lu'",
        ),
        (
            lambda: planning.value_iteration(small(), 0.9, max_iterations=0),
            ValueError,
            "max_iterations must be at least 1",
        ),
        (
            lambda: planning.modified_policy_iteration(small(), 0.9, num_sweeps=1.5),
            TypeError,
            "num_sweeps must be an integer",
        ),
        (
            lambda: planning.policy_evaluation(small(), np.zeros(4, int), 0.9),
            ValueError,
            r"integer actions \[3\] or probabilities \[3, 2\], got int.* \[4\]",
        ),
        (
            lambda: planning.policy_evaluation(small(), np.ones((2, 3)) / 3, 0.9),
            ValueError,
            r"got float32 \[2, 3\]",
        ),
        (
            lambda: planning.policy_evaluation(small(), np.zeros(3), 0.9),
            ValueError,
            r"got float32 \[3\]",
        ),
        (
            lambda: planning.policy_evaluation(small(), np.array([0, 2, 1]), 0.9),
            ValueError,
            r"policy\[1\] must be actions from 0 to 1, got 2",
        ),
        (
            lambda: planning.policy_evaluation(small(), np.array([0, 1, -1]), 0.9),
            ValueError,
            r"policy\[2\] must be actions",
        ),
        (
            lambda: planning.policy_evaluation(small(), np.full((3, 2), 0.4), 0.9),
            ValueError,
            r"policy\[0\] must be probabilities that sum to 1",
        ),
        (
            lambda: planning.expected_return(
                small(), np.array([[0.5, 0.5], [1.5, -0.5], [1, 0]]), 0.9
            ),
            ValueError,
            r"policy\[1\] must be probabilities",
        ),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def outcomes(next_states=((0,), (1,)), probabilities=((1.0,), (1.0,))):
    """Sparse transitions of 2 states and 1 action."""
    return SparseTransitions(
        np.asarray(next_states)[:, None], np.asarray(probabilities)[:, None]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"transitions": np.full((2, 1, 2), 0.6)},
            r"MDP.transitions\[0, 0\] must be probabilities that sum to 1",
        ),
        (
            {"transitions": np.array([[[1.0, 0.0]], [[1.5, -0.5]]])},
            r"MDP.transitions\[1, 0\]",
        ),
        (
            {"transitions": np.array([[[1.0, 0.0]], [[np.nan, 1.0]]])},
            r"MDP.transitions\[1, 0\]",
        ),
        ({"transitions": np.eye(2)}, r"MDP.transitions must be .* \[2, 1, 2\]"),
        (
            {"transitions": np.full((2, 1, 2), "x")},
            "MDP.transitions must be real numbers",
        ),
        ({"rewards": np.array([[1.0], [np.nan]])}, "finite .* with NaN or infinity"),
        ({"rewards": np.array([[1.0], [np.inf]])}, "with NaN or infinity"),
        (
            {"rewards": np.zeros(2)},
            r"MDP.rewards must be .* \[S, A\], got shape \(2,\)",
        ),
        ({"rewards": np.zeros((1, 2, 1))}, "stack whole MDPs"),
        ({"terminal": np.zeros(2)}, r"MDP.terminal must be bool \[2\], got float64"),
        ({"terminal": np.zeros(3, bool)}, r"bool \[2\], got bool \[3\]"),
        ({"initial": np.array([0.5, 0.4])}, "MDP.initial must be probabilities"),
        ({"initial": np.ones(1)}, r"MDP.initial must be real numbers \[2\]"),
        (
            {"transitions": outcomes(next_states=[[0], [2]])},
            "next_states must be states from 0 to 1, got 2",
        ),
        ({"transitions": outcomes(next_states=[[0], [-1]])}, "from 0 to 1, got -1"),
        (
            {"transitions": outcomes(next_states=[[0.0], [1.0]])},
            "next_states must be integers",
        ),
        (
            {"transitions": outcomes(next_states=[[0, 1], [1, 0]])},
            r"transitions.probabilities must be real numbers \[2, 1, 2\]",
        ),
        (
            {"transitions": outcomes(probabilities=[[1.0], [0.5]])},
            r"MDP.transitions.probabilities\[1, 0\] must be probabilities",
        ),
    ],
)
def test_a_model_that_is_none_is_refused(change, message):
    right = {
        "transitions": np.eye(2)[:, None],
        "rewards": np.zeros((2, 1)),
        "terminal": np.array([False, True]),
        "initial": np.array([1.0, 0.0]),
    }
    MDP(**right)
    MDP(**right | {"transitions": outcomes()})
    with pytest.raises(ValueError, match=message):
        MDP(**right | change)


@pytest.mark.parametrize("kind", ["lists", "integers"])
def test_lists_and_integers_make_a_model_too(kind):
    # One state that pays 1 for ever: V = 1 / (1 − γ).
    arrays = {
        "lists": ([[[1.0]]], [[1.0]], [False], [1.0]),
        "integers": (
            np.ones((1, 1, 1), int),
            np.ones((1, 1), int),
            np.array([False]),
            np.ones(1, int),
        ),
    }[kind]
    mdp = MDP(*arrays)
    policy = np.zeros(1, int)
    values = [
        planning.value_iteration(mdp, 0.5).values[0],
        planning.policy_iteration(mdp, 0.5).values[0],
        planning.modified_policy_iteration(mdp, 0.5).values[0],
        planning.policy_evaluation(mdp, policy, 0.5).values[0],
        planning.expected_return(mdp, policy, 0.5),
    ]
    np.testing.assert_allclose(values, 2.0, rtol=1e-5)


def test_a_model_that_rounds_is_accepted():
    # Thirds in float32 do not sum to 1 exactly.
    thirds = np.full((3, 2, 3), 1 / 3, np.float32)
    make_mdp(thirds, np.zeros((3, 2)), np.zeros(3, bool))
    mdp = rljax.make("FrozenLake-8x8").to_mdp(sparse=True)
    assert (mdp.num_states, mdp.num_actions) == (64, 4)


def test_what_rows_lack_of_1_ends_the_episode(x64):
    # A model may be off by 1e-3, and its own equation is what is solved.
    transitions, rewards, _ = random_arrays(0, 7, 2)
    mdp = make_mdp(transitions * 0.9995, rewards, np.zeros(7, bool))
    policy = stochastic_policy(0, 7, 2)
    chain = np.einsum("sa,sat->st", policy, 0.9995 * transitions)
    expected = np.linalg.solve(np.eye(7) - 0.999 * chain, (policy * rewards).sum(1))
    found = planning.policy_evaluation(mdp, policy, 0.999).values
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("discount", [0.999, 0.9995, 0.9999])
def test_policy_iteration_is_optimal_at_long_horizons_in_float32(discount):
    mdp = rljax.make("FrozenLake-8x8").to_mdp()
    plan = planning.policy_iteration(mdp, discount)
    best = planning.value_iteration(mdp, discount, 1e-9)
    assert plan.num_iterations < 50
    np.testing.assert_allclose(plan.values[0], best.values[0], rtol=2e-4)


def test_no_bound_is_claimed_where_there_is_no_value():
    def solve(discount):
        policy = jnp.zeros(25, jnp.int32)  # walks up into the wall for ever
        return planning.policy_evaluation(GridWorld().to_mdp(), policy, discount)

    bounds = jax.vmap(solve)(jnp.array([0.9, 1.0])).error_bound
    assert bounds[0] < 1e-4
    assert not np.isfinite(bounds[1])


def test_lists_make_a_model_beside_traced_rewards():
    def value(reward):
        mdp = MDP([[[1.0]]], jnp.reshape(reward, (1, 1)), [False], [1])
        return planning.value_iteration(mdp, 0.5).values[0]

    np.testing.assert_allclose(jax.vmap(value)(jnp.array([1, 3])), [2, 6], rtol=1e-5)
