"""The linear-quadratic regulator: its steps, and its exact values by other means."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import linalg

import rljax
from rljax import networks, parallel, planning, random, regret
from rljax.agents.base import AgentState
from rljax.envs import lqr
from tests.conftest import enable_x64
from tests.oracles import lqr as oracle

# Three numbers of a state, two of a control: no shape fits by accident.
A = np.array([[1.1, 0.2, 0.0], [-0.1, 0.9, 0.3], [0.0, 0.1, 0.7]])
B = np.array([[0.5, 0.0], [0.1, 1.0], [0.0, -0.3]])
Q = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]])
R = np.array([[0.7, 0.2], [0.2, 1.5]])
NOISE, START = np.array([0.1, 0.3, 0.2]), np.array([1.0, 0.5, 2.0])
ENV = rljax.LQR(A, B, Q, R, NOISE, START)
W, S = np.diag(NOISE**2), np.diag(START**2)
K = np.array([[0.6, 0.3, 0.1], [-0.1, 0.4, 0.2]])
BIAS, SIGMA = np.array([0.3, -0.2]), np.array([0.5, 0.3])
STEP = tuple(np.random.default_rng(0).normal(size=n) for n in (3, 2, 3))
"""A state, a control and the noise of a step."""
EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module")
def found():
    """Everything that is compared with the oracle, in float64 and compiled once."""

    def everything(env, gain, sigma, bias):
        def value(gain, sigma, bias, discount=0.95, horizon=None):
            return planning.linear_return(
                env, gain, discount, bias=bias, noise_scale=sigma, horizon=horizon
            )

        two = jnp.stack([0 * bias, bias])
        short = functools.partial(value, gain, sigma, bias, horizon=7)
        return {
            "step": env.advance(*STEP),
            "plan": planning.riccati(env, 0.95, tolerance=1e-11),
            "horizon": planning.riccati(env, 0.9, horizon=7),
            "long": jax.vmap(jax.value_and_grad(value, (0, 1)), (None, None, 0))(
                gain, sigma, two
            ),
            "short": jax.vmap(short)(jnp.array([0.9, 1.0])),
        }

    with (
        enable_x64(),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        return jax.tree.map(np.asarray, jax.jit(everything)(ENV, K, SIGMA, BIAS))


def test_a_step_is_the_equation(found):
    (s, u, w), (state, time_step) = STEP, found["step"]
    np.testing.assert_allclose(state, A @ s + B @ u + NOISE * w, **EXACT)
    np.testing.assert_array_equal(time_step.obs, state)
    np.testing.assert_allclose(time_step.reward, -(s @ Q @ s + u @ R @ u), **EXACT)
    assert not time_step.terminated and not time_step.truncated


def test_states_and_noise_are_normal(monkeypatch):
    numbers = iter([np.array([1.0, -2.0, 0.5]), np.ones((4, 3))])

    def normal(key, shape):
        return jnp.asarray(next(numbers)).reshape(shape)

    monkeypatch.setattr(random, "normal", normal)
    state, obs = ENV.reset(None)
    np.testing.assert_array_equal(state, obs)
    np.testing.assert_allclose(state, START * [1.0, -2.0, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(ENV.draw((4,), None), np.ones((4, 3)))


def test_the_best_policy_solves_riccati_s_equation(found):
    """SciPy's solver takes the discount as a factor √γ of A and B."""
    plan, root = found["plan"], 0.95**0.5
    cost = linalg.solve_discrete_are(root * A, root * B, Q, R)
    np.testing.assert_allclose(plan.cost, cost, rtol=1e-8)
    gain = np.linalg.solve(R + 0.95 * B.T @ cost @ B, 0.95 * B.T @ cost @ A)
    np.testing.assert_allclose(plan.gain, gain, rtol=1e-8)
    constant = 0.95 / 0.05 * np.trace(cost @ W)
    np.testing.assert_allclose(plan.constant, constant, rtol=1e-8)
    best = oracle.gradients(A, B, Q, R, gain, np.zeros(2), W, S, 0.95)
    np.testing.assert_allclose(plan.expected_return, best[0], rtol=1e-8)
    np.testing.assert_allclose(best[1], 0, atol=1e-8)
    assert 5 < plan.num_iterations < 200 and plan.residual < 1e-11


def test_with_a_horizon_the_best_policy_is_bellman_s(found):
    gains, plan = oracle.best_gains(A, B, Q, R, 0.9, 7), found["horizon"]
    np.testing.assert_allclose(plan.gain, gains, **EXACT)
    zero = np.zeros(2)
    exact = oracle.finite_return(A, B, Q, R, gains, zero, zero, W, S, 0.9)
    np.testing.assert_allclose(plan.expected_return, exact, **EXACT)
    np.testing.assert_allclose(
        plan.constant, -exact - np.trace(plan.cost @ S), rtol=1e-9
    )
    assert (plan.num_iterations, plan.residual) == (7, 0)


def test_returns_and_gradients_of_any_policy_are_those_derived_by_hand(found):
    exact = oracle.gradients(A, B, Q, R, K, SIGMA, W, S, 0.95)
    values, (by_gain, by_sigma) = found["long"]
    for number, wanted in zip((values, by_gain, by_sigma), exact, strict=True):
        np.testing.assert_allclose(number[0], wanted, **EXACT)
    for number, steps, discount in (
        (values[1], 700, 0.95),
        (found["short"][0], 7, 0.9),
        (found["short"][1], 7, 1.0),
    ):
        gains = np.broadcast_to(K, (steps, 2, 3))
        exact = oracle.finite_return(A, B, Q, R, gains, BIAS, SIGMA, W, S, discount)
        np.testing.assert_allclose(number, exact, rtol=1e-9)


QUIET = rljax.LQR(noise_scale=[0.0, 0.0])


def test_what_never_settles_costs_without_limit():
    """At γ = 1 with noise; a loop that grows; one that stays, at γ = 1."""
    grows, stays = [[-9.0, 0.0]], [[0.0, 0.0]]
    best = planning.riccati(QUIET, 1.0)
    value = planning.linear_return(QUIET, best.gain, 1.0)
    np.testing.assert_allclose(value, best.expected_return, rtol=1e-5)
    assert best.constant == 0 and np.isfinite(value)
    assert planning.riccati(rljax.LQR(), 1.0).expected_return == -np.inf
    for env, gain, discount in (
        (rljax.LQR(), best.gain, 1.0),
        (QUIET, grows, 0.99),
        (QUIET, stays, 1.0),
    ):
        assert planning.linear_return(env, gain, discount) == -np.inf
    assert np.isfinite(planning.linear_return(QUIET, stays, 0.99))
    assert np.isnan(planning.linear_return(QUIET, [[np.nan, 0.0]], 0.99))


def test_a_system_out_of_control_is_refused():
    free = dataclasses.replace(
        QUIET, state_matrix=2 * np.eye(2), control_matrix=np.zeros((2, 1))
    )
    with pytest.raises(ValueError, match="did not converge .* can't be stabilised"):
        planning.riccati(free, 0.9, max_iterations=50)
    # An overflow is no convergence, however many iterations there may be.
    for most in (50, 10_000):
        soon = dataclasses.replace(free, state_matrix=1e12 * np.eye(2))
        with pytest.raises(ValueError, match="in 3 iterations.* can't be stabilised"):
            planning.riccati(soon, 0.9, max_iterations=most)
    # Below 1/4, the discount outweighs that the state doubles: P = Q / (1 − 4γ).
    plan = planning.riccati(free, 0.2)
    np.testing.assert_allclose(plan.cost, 5 * free.state_cost, rtol=1e-5)


SMALL = {
    "state_matrix": [[2.0]],
    "control_matrix": [[1.0]],
    "state_cost": [[1.0]],
    "control_cost": [[1.0]],
    "noise_scale": None,
    "start_scale": [1.0],
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state_matrix": [1.0]}, r"state_matrix must have 2 axes, \[N, M\], got"),
        ({"state_matrix": [[1.0, 0.0]]}, r"state_matrix must have shape \[1, 1\], as"),
        ({"state_cost": np.eye(2)}, r"state_cost must have shape \[1, 1\], .* \[2, 2"),
        ({"control_cost": np.eye(2)}, r"control_cost must have shape \[1, 1\]"),
        ({"noise_scale": [1.0, 1.0]}, r"noise_scale must have shape \[1\], .* \[2\]"),
        ({"start_scale": [-1.0]}, "start_scale must be 0 or more, got"),
        ({"noise_scale": [-1.0]}, "noise_scale must be 0 or more, got"),
        ({"control_matrix": [[np.inf]]}, "control_matrix must be finite"),
        ({"control_cost": [[0.0]]}, "control_cost must be symmetric .* above 0"),
        ({"state_cost": [[-1.0]]}, "state_cost must be symmetric .* of 0 or more"),
    ],
)
def test_impossible_systems_are_refused(fields, message):
    rljax.LQR(**SMALL | {"state_cost": [[0.0]]})
    with pytest.raises(ValueError, match=f"LQR.{message}"):
        rljax.LQR(**SMALL | fields)


def test_what_does_not_fit_is_refused(key):
    with pytest.raises(TypeError, match="LQR.state_cost must be real numbers"):
        rljax.LQR(**SMALL | {"state_cost": "Q"})
    with pytest.raises(ValueError, match="state_cost must be symmetric"):
        rljax.LQR(state_cost=[[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(ValueError, match=r"gain must have shape \[1, 1\] .* \[2, 1\]"):
        planning.linear_return(rljax.LQR(**SMALL), np.ones((2, 1)), 0.9)
    with pytest.raises(TypeError, match="env must be a LQR, such as"):
        planning.riccati(rljax.make("LQR-DoubleIntegrator"), 0.9)
    several = rljax.LQR(state_matrix=np.ones((3, 2, 2)))
    for call in (lambda: several.reset(key), lambda: planning.riccati(several, 0.9)):
        with pytest.raises(ValueError, match="state_matrix must have 2 axes here"):
            call()
    linear = {"hidden_sizes": ()}
    for settings, message in (
        ({}, r"PPO with hidden_sizes=\(64, 64\)\."),
        (linear | {"normalize_observations": True}, "with normalize_observations=True"),
        (linear | {"encoder": networks.CNN()}, "PPO with encoder="),
    ):
        with pytest.raises(TypeError, match=f"must have a linear policy.*{message}"):
            regret.measure_linear(rljax.PPO(**settings), rljax.LQR(), None)
    with pytest.raises(TypeError, match="must have a linear policy.* got QLearning"):
        regret.measure_linear(rljax.QLearning(), rljax.LQR(), None)


def test_the_named_one_is_a_mass_pushed_for_ten_seconds():
    env = rljax.make("LQR-DoubleIntegrator")
    assert env.max_steps == 100
    # A tenth of a second at constant acceleration.
    np.testing.assert_allclose(env.env.state_matrix, [[1, 0.1], [0, 1]])
    np.testing.assert_allclose(env.env.control_matrix, [[0.1**2 / 2], [0.1]])
    assert (
        rljax.make("LQR-DoubleIntegrator", noise_scale=None).env.draw((3,), None) == ()
    )


def test_the_measure_reads_gain_bias_and_noise():
    env = rljax.make("LQR-DoubleIntegrator")
    agent = rljax.PPO(hidden_sizes=(), discount=0.9)
    layer = networks.Dense(jnp.array([[-1.5], [-2.0]]), jnp.array([0.3]))
    critic = networks.Dense(jnp.zeros((2, 1)), jnp.zeros(1))
    params = networks.ActorCriticParams((), (layer,), (critic,))
    params = networks.LogScaled(params, jnp.log(jnp.array([0.5])))
    state = AgentState(params, (), jnp.int32(0), agent.kind_of_policy(env))
    limits = rljax.TimeLimit(env, 7)  # there are two of them: none is of the problem
    found = regret.measure_linear(agent, limits, state)

    fields = [np.asarray(getattr(env.env, name)) for name in lqr._AXES]
    *system, noise, start = fields
    policy = (np.full((400, 1, 2), [1.5, 2.0]), np.array([0.3]))
    spread = (np.diag(noise**2), np.diag(start**2), 0.9)
    greedy, behaviour = (
        oracle.finite_return(*system, *policy, np.array([sigma]), *spread)
        for sigma in (0.0, 0.5)
    )
    gains, zero = oracle.best_gains(*system, 0.9, 400), np.zeros(1)
    best = oracle.finite_return(*system, gains, zero, zero, *spread)
    wanted = {"greedy_return": greedy, "behaviour_return": behaviour}
    wanted["greedy_regret"] = best - greedy
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_systems_are_mapped_over():
    """Over matrices, noise and discounts, as if each were alone."""
    scales = np.array([0.5, 1.0, 1.5])
    envs = [
        rljax.LQR(scale * A, B / scale, scale * Q, R, scale * NOISE, START)
        for scale in scales
    ]
    discounts = jnp.array([0.5, 0.8, 0.9])
    stacked = jax.tree.map(lambda *x: jnp.stack(list(map(jnp.asarray, x))), *envs)
    plans = jax.vmap(planning.riccati)(stacked, discounts)
    rollouts = jax.vmap(lambda env, key: env.reset(key)[1])
    states = rollouts(stacked, jax.random.split(jax.random.key(0), 3))
    for i, (env, discount) in enumerate(zip(envs, discounts, strict=True)):
        alone = planning.riccati(env, discount)
        one = jax.tree.map(lambda x: x[i], plans)
        np.testing.assert_allclose(one.gain, alone.gain, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one.expected_return, alone.expected_return, 1e-4)
        key = jax.random.split(jax.random.key(0), 3)[i]
        np.testing.assert_allclose(states[i], env.reset(key)[1], rtol=1e-6)


@pytest.mark.slow
def test_reinforce_s_gradient_is_that_of_the_exact_return(record_property):
    """On average: at γ = 1, Σ_t G_t ∇log π is the gradient of the return of T steps."""
    env = rljax.TimeLimit(ENV, 5)
    agent = rljax.Reinforce(
        hidden_sizes=(),
        num_envs=5000,
        rollout_length=5,
        discount=1.0,
        learning_rate=1.0,
        optimizer=optax.sgd,
    )
    layer = networks.Dense(jnp.asarray(-K.T, float), jnp.asarray(BIAS, float))
    params = networks.LogScaled((layer,), jnp.log(jnp.asarray(SIGMA, float)))

    def step(key):
        start = rljax.init_train(agent, env, key)
        start = start._replace(agent_state=start.agent_state._replace(params=params))
        after, _ = rljax.train_step(agent, env, start)
        return jax.tree.map(jnp.subtract, after.agent_state.params, params)

    def exact(params):
        (layer,) = params.params
        scale = jnp.exp(params.log_scale)
        return planning.linear_return(
            ENV, -layer.kernel.T, 1.0, bias=layer.bias, noise_scale=scale, horizon=5
        )

    keys = jax.random.split(jax.random.key(0), 50)
    sampled = jax.tree.leaves(jax.jit(jax.vmap(step))(keys))
    found = np.concatenate([np.reshape(x, (50, -1)) for x in sampled], axis=1)
    leaves = jax.tree.leaves(jax.grad(exact)(params))
    wanted = np.concatenate([np.ravel(x) for x in leaves])
    error = found.std(0, ddof=1) / 50**0.5
    distance = (np.abs(found.mean(0) - wanted) / error).max()
    share = error.max() / np.abs(wanted).max()
    record_property(
        "evidence",
        f"REINFORCE's gradient against the exact one, {len(wanted)} numbers of 250,000 "
        f"episodes: at most {distance:.1f} standard errors, which are at most "
        f"{share:.1%} of the largest number",
    )
    assert distance < 4
    assert share < 0.1


class QuadraticCritic:
    """A linear policy, and a critic that can be the value of one, sᵀ P s + c."""

    def init(self, key, obs):
        return {
            "kernel": jnp.zeros((2, 1)),
            "bias": jnp.zeros(1),
            "log_scale": jnp.zeros(1),
            "value": jnp.zeros((2, 2)),
            "constant": jnp.zeros(()),
        }

    def apply(self, params, obs):
        mean = obs @ params["kernel"] + params["bias"]
        value = obs @ params["value"] @ obs + params["constant"]
        return (mean, params["log_scale"]), value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "largest_gap"),
    [({"network": QuadraticCritic()}, 0.01), ({"hidden_sizes": ()}, 0.1)],
    ids=["quadratic critic", "linear critic"],
)
def test_ppo_comes_near_the_best_policy(
    settings, largest_gap, request, record_property
):
    """A critic that is linear can't say what a state is worth, and learning suffers."""
    agent = rljax.PPO(
        **settings,
        num_envs=32,
        rollout_length=50,
        num_epochs=10,
        learning_rate=1e-2,
        anneal_updates=300.0,
        entropy_coef=0.02,
        squash=False,
    )
    env = rljax.make("LQR-DoubleIntegrator", max_steps=50)
    best = float(planning.riccati(env.env, 0.99).expected_return)

    def gaps(key):
        _, metrics = rljax.train(
            agent, env, key, num_updates=300, measure=regret.measure_linear
        )
        return metrics.agent["greedy_regret"][jnp.array([0, -1])] / -best

    keys = jax.random.split(jax.random.key(0), 4)
    first, last = np.asarray(parallel.map_seeds(gaps)(keys)).T
    half = 3.18 * last.std(ddof=1) / 4**0.5  # Student's t, 95 %
    record_property(
        "evidence",
        f"PPO on LQR-DoubleIntegrator, {request.node.callspec.id}, 480,000 steps: J* − "
        f"J is {last.mean():.2%} ± {half:.2%} of |J*| = {-best:.2f}",
    )
    assert first.min() > 10
    assert last.mean() + half < largest_gap
