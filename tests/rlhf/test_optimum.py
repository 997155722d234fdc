"""Soft value iteration and exact objectives against enumeration of all sequences."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.rlhf import networks as causal
from rljax.rlhf import optimum
from rljax.rlhf.rewards import TableReward
from rljax.rlhf.tokens import TokenMDP
from rljax.tabular import planning
from tests.conftest import enable_x64
from tests.oracles import regularized as oracle

V, H, P = 4, 3, 2


def problem(seed=0):
    """Rewards [P, V^H], the MDP, and reference and policy [S, V]."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(P, V**H))
    reward = TableReward(jnp.asarray(rewards), vocabulary_size=V)
    env = TokenMDP(reward, vocabulary_size=V, horizon=H, num_prompts=P)
    shape = (env.observation_space.n, V)
    reference, policy = rng.dirichlet(np.full(V, 0.7), (2, shape[0]))
    return rewards, env.to_mdp(), reference, policy


def sequences(policy, prompt):
    return oracle.sequence_probabilities(np.asarray(policy), V, H, prompt)


@pytest.mark.parametrize("kl_coef", [1e-3, 0.05, 0.2, 1.0, 30.0])
def test_soft_value_iteration_is_enumeration(x64, kl_coef):
    rewards, mdp, reference, _ = problem()
    plan = optimum.soft_value_iteration(mdp, reference, kl_coef)
    total = 0.0
    for prompt in range(P):
        best, value = oracle.optimum(
            sequences(reference, prompt), rewards[prompt], kl_coef
        )
        policy = sequences(jnp.exp(plan.log_policy), prompt)
        np.testing.assert_allclose(policy, best, rtol=0, atol=1e-10)
        start = prompt * oracle.first_index(V, H + 1)
        np.testing.assert_allclose(plan.values[start], value, rtol=1e-10)
        total += value / P
    np.testing.assert_allclose(plan.objective, total, rtol=1e-10)
    # Its own evaluation agrees.
    own = optimum.objective(mdp, jnp.exp(plan.log_policy), reference, kl_coef)
    np.testing.assert_allclose(own.objective, plan.objective, rtol=1e-9)


def test_the_objective_is_enumeration(x64):
    rewards, mdp, reference, policy = problem(1)
    found = optimum.objective(mdp, policy, reference, 0.3)
    expected = np.mean(
        [
            oracle.objective(
                sequences(policy, p), sequences(reference, p), rewards[p], 0.3
            )
            for p in range(P)
        ],
        axis=0,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_no_policy_is_better_and_the_gap_is_a_kl(x64):
    """J(π*) − J(π) = β KL(π ‖ π*), with several random policies."""
    _, mdp, reference, _ = problem(2)
    plan = optimum.soft_value_iteration(mdp, reference, 0.2)
    for seed in range(5):
        policy = np.random.default_rng(seed).dirichlet(np.ones(V), len(reference))
        value = optimum.objective(mdp, policy, reference, 0.2).objective
        kl = optimum.objective(mdp, policy, jnp.exp(plan.log_policy), 0.0).kl
        np.testing.assert_allclose(plan.objective - value, 0.2 * kl, rtol=1e-9)


def test_the_limits_are_the_best_sequence_and_the_reference(x64):
    rewards, mdp, reference, _ = problem(3)
    free = optimum.soft_value_iteration(mdp, reference, 0.0)
    np.testing.assert_allclose(free.objective, rewards.max(1).mean(), rtol=1e-12)
    np.testing.assert_allclose(
        free.values, planning.value_iteration(mdp, 1.0).values, rtol=1e-12
    )
    bound = optimum.soft_value_iteration(mdp, reference, jnp.inf)
    live = ~np.asarray(mdp.terminal)
    np.testing.assert_allclose(
        jnp.exp(bound.log_policy)[live], reference[live], rtol=1e-12
    )
    at_reference = optimum.objective(mdp, reference, reference, 1.0)
    np.testing.assert_allclose(
        bound.objective, at_reference.expected_return, rtol=1e-12
    )
    assert at_reference.kl == 0
    # Approached from inside.
    near = optimum.soft_value_iteration(mdp, reference, 1e9).objective
    np.testing.assert_allclose(near, bound.objective, atol=1e-7)


@pytest.mark.parametrize("level", [0.0, 1024.0, -1024.0])
def test_a_reward_for_every_text_changes_no_policy(level):
    """In single precision, at a β for which r/β alone would have no decimals left."""
    rewards = jnp.array([[0.0, 1.0, 2.0, -1.0]]) / 1024
    uniform = jnp.full((1, 4), -jnp.log(4.0))
    found = optimum.optimal_log_probs(uniform, level + rewards, 0.001)
    np.testing.assert_allclose(found, jax.nn.log_softmax(1000 * rewards), atol=1e-5)


def test_actions_that_the_reference_never_takes(x64):
    _, mdp, reference, policy = problem(4)
    barred = reference.copy()
    barred[:, 0] = 0
    barred /= barred.sum(1, keepdims=True)
    for kl_coef in (0.0, 0.2, jnp.inf):
        plan = optimum.soft_value_iteration(mdp, barred, kl_coef)
        live = ~np.asarray(mdp.terminal)
        assert (plan.log_policy[live, 0] == -jnp.inf).all()
        assert np.isfinite(plan.values).all()
    assert optimum.objective(mdp, policy, barred, 0.2).kl == jnp.inf
    assert np.isfinite(optimum.objective(mdp, barred, reference, 0.2).objective)


def test_it_vmaps_over_prices_and_differentiates(x64):
    _, mdp, reference, _ = problem(5)
    prices = jnp.array([0.0, 0.1, 1.0, jnp.inf])
    plans = jax.vmap(lambda beta: optimum.soft_value_iteration(mdp, reference, beta))(
        prices
    )
    lone = optimum.soft_value_iteration(mdp, reference, 0.1)
    np.testing.assert_allclose(plans.objective[1], lone.objective, rtol=1e-12)
    assert (np.diff(plans.objective) < 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kl_coef": -1.0}, "kl_coef must be 0 or more, got -1.0"),
        (
            {"reference": np.ones((3, 4)) / 4},
            r"reference must be probabilities \[S, A\]",
        ),
        (
            {"reference": np.ones((170, 4))},
            r"reference\[0\] must be probabilities that",
        ),
    ],
)
def test_bad_arguments_are_refused(change, message):
    _, mdp, reference, _ = problem()
    arguments = {"mdp": mdp, "reference": reference, "kl_coef": 1.0} | change
    with pytest.raises(ValueError, match=message):
        optimum.soft_value_iteration(**arguments)
    with pytest.raises(TypeError, match="mdp must be an MDP"):
        optimum.soft_value_iteration(reference, reference, 1.0)


@pytest.mark.parametrize("name", ["policy", "reference"])
def test_the_objective_is_that_of_two_policies(name):
    _, mdp, reference, _ = problem()
    arguments = {"policy": reference, "reference": reference}
    for wrong in (2 * reference, reference[:-1]):
        with pytest.raises(ValueError, match=f"{name}.* must be probabil"):
            optimum.objective(mdp, **{**arguments, name: wrong}, kl_coef=1.0)


def distributions(seed, peaked=1.0):
    """[P, V^H] log-probabilities of a policy and a reference, and rewards."""
    rng = np.random.default_rng(seed)
    logits = peaked * rng.normal(size=(2, P, V**H))
    policy, reference = np.asarray(jax.nn.log_softmax(logits))
    return policy, reference, rng.normal(size=(P, V**H))


@pytest.mark.parametrize("kl_coef", [1e-3, 0.2, 30.0])
def test_the_objective_of_sequences_is_the_oracle_s(x64, kl_coef):
    policy, reference, rewards = distributions(0)
    found = optimum.sequence_objective(policy, reference, rewards, kl_coef)
    parts, best, values = [], [], []
    for p in range(P):
        pi, rho = np.exp(policy[p]), np.exp(reference[p])
        parts.append(oracle.objective(pi, rho, rewards[p], kl_coef))
        best.append(oracle.optimum(rho, rewards[p], kl_coef)[0])
        values.append(oracle.optimum(rho, rewards[p], kl_coef)[1])
    np.testing.assert_allclose(found[:3], np.mean(parts, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.optimum, np.mean(values), rtol=1e-12)
    log_best = optimum.optimal_log_probs(reference, rewards, kl_coef)
    np.testing.assert_allclose(np.exp(log_best), best, rtol=0, atol=1e-12)
    # The gap is β KL(π‖π*), and both are computed apart.
    np.testing.assert_allclose(found.gap, kl_coef * found.kl_to_optimum, rtol=1e-9)
    optimal = optimum.sequence_objective(log_best, reference, rewards, kl_coef)
    np.testing.assert_allclose(optimal.gap, 0, atol=1e-12)


@pytest.mark.parametrize("kl_coef", [0.01, 0.05, 1.0, 1000.0])
def test_the_optimum_keeps_its_digits_in_float32(kl_coef):
    """Also where π* is some nats from the reference, and 1 − Σ is all rounding."""
    policy, reference, rewards = (x.astype(np.float32) for x in distributions(1, 3.0))
    found = optimum.sequence_objective(policy, reference, rewards, kl_coef)
    expected = np.mean(
        [
            oracle.optimum(np.exp(np.float64(reference[p])), rewards[p], kl_coef)[1]
            for p in range(P)
        ]
    )
    np.testing.assert_allclose(found.optimum, expected, rtol=1e-5, atol=1e-5)


def test_the_objective_of_sequences_at_its_limits():
    policy, reference, rewards = distributions(2)
    free = optimum.sequence_objective(policy, reference, rewards, 0.0)
    np.testing.assert_allclose(free.optimum, rewards.max(1).mean(), rtol=1e-6)
    np.testing.assert_allclose(free.objective, free.expected_reward)
    assert free.kl_to_optimum == jnp.inf  # as π* takes the best one alone
    best = np.where(rewards == rewards.max(1, keepdims=True), 0.0, -np.inf)
    done = optimum.sequence_objective(best, reference, rewards, 0.0)
    assert (done.gap, done.kl_to_optimum) == (0, 0)
    same = optimum.sequence_objective(reference, reference, rewards, 1e6)
    np.testing.assert_allclose(same.kl, 0, atol=1e-6)
    with pytest.raises(ValueError, match=r"must be \[P, Y\] alike"):
        optimum.sequence_objective(policy, reference, rewards[:1], 0.1)
    with pytest.raises(ValueError, match="kl_coef must be 0 or more, got -1"):
        optimum.optimal_log_probs(reference, rewards, -1.0)
    with pytest.raises(
        ValueError, match="kl_coef must be 0 or more and finite, got in"
    ):
        optimum.sequence_objective(policy, reference, rewards, jnp.inf)
    with pytest.raises(TypeError, match="kl_coef must be one real number"):
        optimum.sequence_objective(policy, reference, rewards, np.ones(2))
    with pytest.raises(TypeError, match="enumerates a TokenMDP, got a CartPole"):
        optimum.measure(None, rljax.CartPole(), None)


def test_enumeration_and_planning_say_the_same_of_an_agent(x64):
    """`measure`, from sequences, against the model's sweeps over all prefixes."""
    rewards, mdp, _, _ = problem(3)
    reward = TableReward(jnp.asarray(rewards), vocabulary_size=V)
    env = TokenMDP(reward, vocabulary_size=V, horizon=H, num_prompts=P)
    params = np.random.default_rng(0).normal(size=(2, P, 21, V))
    agent = rljax.RLOO(rollout_length=H, network=causal.Table(V, H, P), kl_coef=0.3)
    state = agent.init(jax.random.key(0), env)._replace(
        params=jnp.asarray(params[0]), reference_params=jnp.asarray(params[1])
    )
    found = optimum.measure(agent, env, state)
    obs = np.arange(env.observation_space.n)
    policies = [
        jax.nn.softmax(jax.vmap(lambda o, f=f: f(state, o))(obs))
        for f in (agent.logits, agent.reference_logits)
    ]
    planned = optimum.objective(mdp, *policies, 0.3)
    best = optimum.soft_value_iteration(mdp, policies[1], 0.3)
    expected = {
        "exact_objective": planned.objective,
        "exact_reward": planned.expected_return,
        "exact_kl": planned.kl,
        "exact_optimum": best.objective,
        "exact_gap": best.objective - planned.objective,
        "exact_kl_to_optimum": (best.objective - planned.objective) / 0.3,
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("enabled", [False, True])
def test_a_reference_that_underflows_excludes_nothing(enabled):
    with enable_x64() if enabled else contextlib.nullcontext():
        rewards, reference = jnp.array([[0.0, 15.0]]), jnp.array([[0.0, -110.0]])
        best = jnp.array([[-200.0, 0.0]])
        out = optimum.sequence_objective(best, reference, rewards, 0.1)
        # 0.1 · log(e⁰ + e^(150−110)) = 4, and that policy is the best one.
        np.testing.assert_allclose(out.optimum, 4.0, rtol=1e-6)
        np.testing.assert_allclose(out.gap, 0.0, atol=1e-6)
        log_best = optimum.optimal_log_probs(reference, rewards, 0.1)
        np.testing.assert_allclose(log_best, [[-40.0, 0.0]], atol=1e-5)


def test_a_soft_value_and_its_policy_agree_where_the_reference_is_tiny():
    mdp = rljax.types.MDP(
        transitions=jnp.ones((2, 2, 1)) * jnp.array([0.0, 1.0])[None, None, :],
        rewards=jnp.array([[0.0, 200.0], [0.0, 0.0]]),
        terminal=jnp.array([False, True]),
        initial=jnp.array([1.0, 0.0]),
    )
    reference = jnp.array([[1.0, 2e-38], [0.5, 0.5]])
    plan = optimum.soft_value_iteration(mdp, reference, 1.0)
    expected = 200 + np.log(2e-38)
    np.testing.assert_allclose(plan.values[0], expected, rtol=1e-5)
    implied = np.log(2e-38) + 200 - plan.values[0]
    np.testing.assert_allclose(plan.log_policy[0, 1], implied, atol=1e-4)

    def value(reference):
        return optimum.soft_value_iteration(mdp, reference, 1.0).values[0]

    barred = jnp.array([[1.0, 0.0], [0.5, 0.5]])
    _, slope = jax.jvp(value, (barred,), (jnp.zeros((2, 2)),))
    assert slope == 0  # not 0 · ∞


def test_without_a_price_ties_are_broken_as_the_reference_would(x64):
    """The limit β → 0 of π_ref exp(Q/β)/Z, which is π_ref among the best actions."""
    first_pays = jnp.repeat(jnp.array([0.0, 1.0, 0.5, 1.0]), V ** (H - 1))
    reward = TableReward(jnp.stack([first_pays] * P), vocabulary_size=V)
    mdp = TokenMDP(reward, vocabulary_size=V, horizon=H, num_prompts=P).to_mdp()
    _, _, reference, _ = problem(6)
    expected = reference.copy()
    for prompt in range(P):  # from the second token on, all are as good
        start = prompt * oracle.first_index(V, H + 1)
        expected[start] *= [0, 1, 0, 1]
        expected[start] /= expected[start].sum()
    live = ~np.asarray(mdp.terminal)
    for kl_coef in (0.0, 1e-3):
        plan = optimum.soft_value_iteration(mdp, reference, kl_coef)
        np.testing.assert_allclose(
            jnp.exp(plan.log_policy)[live], expected[live], atol=1e-12
        )
