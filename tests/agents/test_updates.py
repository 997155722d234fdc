"""One whole `agent.update` against a NumPy re-execution, with every option."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import rljax
from rljax import distributions, random
from rljax.networks import ActorCriticParams, Dense, LogScaled
from tests import probes
from tests.conftest import enable_x64
from tests.oracles import networks, optimizers, published
from tests.oracles import returns as returns_oracle
from tests.oracles import updates as oracle

SMALL = {"num_envs": 4, "rollout_length": 24, "hidden_sizes": (8,)}
# Short episodes of CartPole: terminated ones, truncated ones, and a cut end.
ENV = rljax.make("CartPole-v1", max_steps=12, theta_threshold=0.1)
PENDULUM = rljax.make("Pendulum-v1", max_steps=10)


def to_numpy(params):
    if isinstance(params, LogScaled):
        log_scale = np.asarray(params.log_scale)
        return to_numpy(params.params) | {"log_scale": log_scale}
    if isinstance(params, ActorCriticParams):
        layers = {"1": params.trunk[0], "a": params.actor[0], "c": params.critic[0]}
    else:
        layers = {"1": params[0], "a": params[1]}
    arrays = {}
    for name, layer in layers.items():
        arrays["W" + name] = np.asarray(layer.kernel)
        arrays["b" + name] = np.asarray(layer.bias)
    return arrays


class RandomPolicy(rljax.Agent):
    """Acts at random, and claims log-probabilities that the agents do not have."""

    init = update = None

    num_envs = 4
    rollout_length = 24

    def act(self, state, obs, key):
        claimed = jnp.log(0.5) + 0.3 * jnp.sin(20 * obs[2])
        return jax.random.randint(key, (), 0, 2), {"behaviour_log_probs": claimed}


class RandomTorque(RandomPolicy):
    """The same for a torque, of which it keeps an unbounded draw."""

    def act(self, state, obs, key):
        claimed = -1 + 0.3 * jnp.sin(20 * obs[2])
        draw = 1.5 * jax.random.normal(key, (1,))
        return jnp.clip(draw, -2, 2), {"draw": draw, "behaviour_log_probs": claimed}


@functools.cache
def trajectories(env=ENV, actor=RandomPolicy):
    """Two rollouts [24, 4] in float64, shared by all tests."""

    def unroll(key):
        start = rljax.rollout.start(env, key)
        return rljax.rollout.unroll(actor(), (), env, start, key, length=24)[1]

    keys = jax.random.split(jax.random.key(3), (2, 4))
    both = jax.jit(jax.vmap(jax.vmap(unroll, out_axes=1)))(keys)
    return [jax.tree.map(lambda x: x[i], both) for i in range(2)]


def experience(agent, env=ENV, actor=RandomPolicy):
    """A state after one update, a trajectory, and what a second update makes of it.

    The second, so that Adam's moments and the annealing are under way.
    """
    with enable_x64():
        first, second = trajectories(env, actor)
        state = agent.init(jax.random.key(0), env)
        update = jax.jit(lambda agent, *args: agent.update(*args))
        state, _ = update(agent, state, first, jax.random.key(6))
        after, metrics = update(agent, state, second, jax.random.key(7))
        return state, second, after, metrics


def assert_params(after, expected):
    for name, array in to_numpy(after.params).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-8, atol=1e-11)


def columns(trajectory):
    """The trajectory of each environment, as NumPy arrays."""
    trajectory = jax.tree.map(np.asarray, trajectory)
    return [
        jax.tree.map(lambda x: x[:, i], trajectory)
        for i in range(trajectory.reward.shape[1])
    ]


def flat(trajectory):
    return (
        np.asarray(trajectory.obs).reshape(-1, 4),
        np.asarray(trajectory.action).reshape(-1),
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_reinforce_with_the_published_constants(normalize):
    agent = rljax.Reinforce(
        **SMALL,
        learning_rate=0.01,
        optimizer=optax.sgd,
        normalize_returns=normalize,
    )
    state, trajectory, after, metrics = experience(agent)
    weights, mask = [], []
    for t in columns(trajectory):
        zeros = np.zeros_like(t.reward)
        weights.append(
            returns_oracle.discounted_returns(
                t.reward, zeros, t.terminated, t.truncated, 0.99
            )
        )
        done = np.flatnonzero(t.terminated | t.truncated)
        mask.append(np.arange(24) <= (done[0] if done.size else 24))
    weights, mask = np.stack(weights, 1), np.stack(mask, 1)
    assert 0 < mask.sum() < mask.size
    if normalize:
        weights = (weights - weights[mask].mean()) / weights[mask].std()
    weights = np.where(mask, weights, 0).reshape(-1)
    params = to_numpy(state.params)
    grads = oracle.reinforce_gradient(params, *flat(trajectory), weights, 4)
    assert_params(after, optimizers.sgd(params, grads, 0.01))
    norm = optimizers.clip_by_global_norm(grads, None)[1]
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-8)


def one_step_updates(agent, state, trajectory, returns):
    """A scan of `agent.update` over single steps, each an episode that pays G_t."""

    def step(state, one):
        transition, g = one
        alone = jax.tree.map(lambda x: x[None, None], transition)
        alone = alone._replace(
            reward=g[None, None],
            terminated=jnp.ones((1, 1), bool),
            truncated=jnp.zeros((1, 1), bool),
        )
        state, _ = agent.update(state, alone, jax.random.key(0))
        return state, None

    return jax.jit(lambda state: jax.lax.scan(step, state, (trajectory, returns))[0])(
        state
    )


@pytest.mark.parametrize(
    ("agent", "by_oracle"),
    [
        (rljax.Reinforce(learning_rate=0.01), published.reinforce),
        # The text's critic weight ½ is value_coef = 1 on a loss with its own ½.
        (rljax.ActorCritic(learning_rate=0.005), published.actor_critic_mended),
    ],
    ids=["reinforce", "actor-critic"],
)
def test_a_scan_of_single_steps_is_the_sequential_rule_published(agent, by_oracle):
    agent = dataclasses.replace(agent, **SMALL, optimizer=optax.sgd)
    with enable_x64():
        first, _ = trajectories()
        steps = jax.tree.map(lambda x: x[:, 0], first)
        # Not the episode's own returns: large ones of both signs move the weights far.
        returns = jnp.asarray(np.random.default_rng(0).normal(2, 3, size=24))
        state = agent.init(jax.random.key(0), ENV)
        after = one_step_updates(agent, state, steps, returns)
    arrays = (np.asarray(x) for x in (steps.obs, steps.action, returns))
    expected = by_oracle(to_numpy(state.params), *arrays)
    for name, array in to_numpy(after.params).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-10, atol=1e-13)
        assert np.abs(array - to_numpy(state.params)[name]).max() > 1e-4


def test_each_published_mistake_changes_what_it_should_and_nothing_else():
    rng = np.random.default_rng(0)
    with enable_x64():
        params = to_numpy(
            rljax.ActorCritic(**SMALL).init(jax.random.key(0), ENV).params
        )
    step = (rng.normal(size=(1, 4)), np.array([1]), np.array([2.5]), 0.5)

    def gradient(trunk_sign, train_head_biases):
        return published.actor_critic_step_gradient(
            params, *step, trunk_sign=trunk_sign, train_head_biases=train_head_biases
        )

    right = oracle.actor_critic_gradient(
        params,
        *step[:2],
        step[2] - networks.forward(params, step[0])[3],
        step[2],
        1.0,
        0.0,
    )
    for name, array in gradient(1.0, True).items():
        np.testing.assert_allclose(array, right[name], rtol=1e-12, atol=1e-14)
    wrong = gradient(-1.0, False)
    assert {k for k in wrong if not np.allclose(wrong[k], right[k])} == {
        *("W1", "b1"),  # the sign
        *("ba", "bc"),  # the biases
    }
    # The actor's part and the critic's part of the trunk's gradient, apart.
    actor_only = (gradient(1.0, True)["W1"] + gradient(-1.0, True)["W1"]) / 2
    critic = right["W1"] - actor_only
    np.testing.assert_allclose(wrong["W1"], actor_only - critic, rtol=1e-12, atol=1e-14)


def advantages_and_values(agent, params, trajectory, as_termination=False):
    """GAE by double loops: advantages, targets, values, each [T·N]."""
    out = []
    for t in columns(trajectory):
        values = networks.forward(params, t.obs)[3]
        next_values = networks.forward(params, t.next_obs)[3]
        terminated = t.terminated | (t.truncated if as_termination else False)
        advantages = returns_oracle.gae(
            t.reward,
            values,
            next_values,
            terminated,
            t.truncated,
            agent.discount,
            agent.gae_lambda,
        )
        out.append((advantages, advantages + values, values))
    return [np.stack(x, 1).reshape(-1) for x in zip(*out, strict=True)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gae_lambda": 0.8, "entropy_coef": 0.05, "value_coef": 0.3},
        {"max_grad_norm": 0.01},
    ],
    ids=str,
)
def test_actor_critic_with_the_published_constants(options):
    # The text's critic weight ½ is value_coef = 1 on a loss with its own ½.
    agent = rljax.ActorCritic(
        **SMALL, learning_rate=0.005, optimizer=optax.sgd, **options
    )
    state, trajectory, after, metrics = experience(agent)
    params = to_numpy(state.params)
    advantages, targets, _ = advantages_and_values(agent, params, trajectory)
    grads = oracle.actor_critic_gradient(
        params,
        *flat(trajectory),
        advantages,
        targets,
        agent.value_coef,
        agent.entropy_coef,
    )
    clipped, norm = optimizers.clip_by_global_norm(grads, agent.max_grad_norm)
    assert agent.max_grad_norm is None or norm > agent.max_grad_norm
    assert_params(after, optimizers.sgd(params, clipped, 0.005))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_value_loss": True, "max_grad_norm": None, "dual_clip": 1.2},
        {"normalize_advantages": False, "entropy_coef": 0.1, "value_coef": 1.5},
        {"anneal_updates": 4, "clip_epsilon": 0.01, "max_grad_norm": 0.05},
        {"time_limit_is_termination": True, "gae_lambda": 1.0},
    ],
    ids=str,
)
def test_ppo_epochs_and_minibatches_included(options):
    agent = rljax.PPO(
        **SMALL,
        num_epochs=3,
        num_minibatches=4,
        shared_network=True,
        learning_rate=0.01,
        **options,
    )
    state, trajectory, after, metrics = experience(agent)
    params = to_numpy(state.params)
    advantages, targets, values = advantages_and_values(
        agent, params, trajectory, agent.time_limit_is_termination
    )
    obs, actions = flat(trajectory)
    batch = {
        "obs": obs,
        "actions": actions,
        "advantages": advantages,
        "targets": targets,
        "values": values,
        "behaviour_log_probs": np.asarray(
            trajectory.extras["behaviour_log_probs"]
        ).reshape(-1),
    }
    with enable_x64():
        order = [
            np.asarray(random.permutation(key, 96)).reshape(4, 24)
            for key in jax.random.split(jax.random.key(7), 3)
        ]
    learning_rate = 0.01
    if agent.anneal_updates is not None:
        learning_rate *= 1 - 1 / 4  # the second of four updates
    moments = adam_moments(state)
    norms = []
    for indices in np.concatenate(order):
        grads = oracle.ppo_gradient(
            params,
            {name: array[indices] for name, array in batch.items()},
            agent.clip_epsilon,
            agent.clip_value_loss,
            agent.normalize_advantages,
            agent.value_coef,
            agent.entropy_coef,
            agent.dual_clip,
        )
        grads, norm = optimizers.clip_by_global_norm(grads, agent.max_grad_norm)
        norms.append(norm)
        params, moments = optimizers.adam(params, grads, moments, learning_rate, 1e-5)
    assert_params(after, params)
    np.testing.assert_allclose(metrics["grad_norm"], np.mean(norms), rtol=1e-7)
    for epoch in order:
        np.testing.assert_array_equal(np.sort(epoch.reshape(-1)), np.arange(96))


def normalised_by_hand(agent, second, after):
    """The second of two trajectories, its observations by the moments of the first one
    alone and its rewards by those of both, which are the moments after the update.
    """
    first = trajectories(PENDULUM, RandomTorque)[0]
    seen, last, returns = [], np.zeros(4), []
    for one in (first, second):
        seen.append(np.asarray(one.obs))
        done = np.asarray(one.terminated | one.truncated)
        past, last = oracle.past_returns(
            np.asarray(one.reward), done, agent.discount, last
        )
        returns.append(past)
    for found, batches in (
        (after.running.observations, seen),
        (after.running.returns.moments, returns),
    ):
        mean, variance = oracle.moments(batches)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
        np.testing.assert_allclose(found.variance, variance, rtol=1e-10)
    np.testing.assert_allclose(after.running.returns.last, last, rtol=1e-10)
    by = oracle.moments(seen[:1])
    return second._replace(
        obs=oracle.normalised(np.asarray(second.obs), *by),
        next_obs=oracle.normalised(np.asarray(second.next_obs), *by),
        reward=oracle.normalised(np.asarray(second.reward), 0, variance),
    )


@pytest.mark.parametrize(
    ("squash", "normalize"), [(False, False), (True, False), (False, True)]
)
def test_ppo_with_a_normal_policy(squash, normalize):
    agent = rljax.PPO(
        **SMALL,
        num_epochs=2,
        num_minibatches=4,
        shared_network=True,
        learning_rate=0.01,
        entropy_coef=0.05,
        squash=squash,
        normalize_observations=normalize,
        normalize_rewards=normalize,
    )
    state, trajectory, after, metrics = experience(agent, PENDULUM, RandomTorque)
    params = to_numpy(state.params)
    if normalize:
        trajectory = normalised_by_hand(agent, trajectory, after)
    advantages, targets, _ = advantages_and_values(agent, params, trajectory)
    extras = jax.tree.map(np.asarray, trajectory.extras)
    batch = {
        "obs": np.asarray(trajectory.obs).reshape(-1, 3),
        "draws": extras["draw"].reshape(-1, 1),
        "behaviour_log_probs": extras["behaviour_log_probs"].reshape(-1),
        "advantages": advantages,
        "targets": targets,
    }
    with enable_x64():
        order = [
            np.asarray(random.permutation(key, 96)).reshape(4, 24)
            for key in jax.random.split(jax.random.key(7), 2)
        ]
    moments = adam_moments(state)
    for indices in np.concatenate(order):
        grads = oracle.ppo_normal_gradient(
            params,
            {name: array[indices] for name, array in batch.items()},
            agent.clip_epsilon,
            agent.value_coef,
            agent.entropy_coef,
            (-2.0, 2.0) if squash else None,
        )
        grads, _ = optimizers.clip_by_global_norm(grads, agent.max_grad_norm)
        params, moments = optimizers.adam(params, grads, moments, 0.01, 1e-5)
    assert_params(after, params)
    assert np.isfinite(metrics["entropy"])


def adam_moments(state):
    """(m, v, t) out of optax's state, after the first update."""
    (adam,) = [
        leaf
        for leaf in jax.tree.leaves(
            state.opt_state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState)
        )
        if isinstance(leaf, optax.ScaleByAdamState)
    ]
    with enable_x64():
        _, as_params = ravel_pytree(state.params)
        moments = [to_numpy(as_params(moment)) for moment in (adam.mu, adam.nu)]
    return (*moments, int(adam.count))


def test_a_dead_unit_does_not_spoil_the_derivative_of_training():
    # Zero gradients leave Adam's v at 0, where the root's derivative is infinite.
    dead = Dense(jnp.zeros((1, 4)), -jnp.ones(4))

    def trained(rate):
        agent = rljax.Reinforce(
            num_envs=4, rollout_length=1, hidden_sizes=(4,), learning_rate=rate
        )
        state = rljax.init_train(agent, probes.ActionDependent(), jax.random.key(0))
        params = (dead, *state.agent_state.params[1:])
        agent_state = state.agent_state._replace(params=params)
        state = state._replace(agent_state=agent_state)
        for _ in range(2):
            state, _ = rljax.train_step(agent, probes.ActionDependent(), state)
        return state.agent_state.params[1].bias[1]

    assert np.isfinite(jax.jit(jax.grad(trained))(0.01))


def test_ppo_refuses_a_trajectory_that_its_minibatches_do_not_divide():
    agent, flags = rljax.PPO(**SMALL, num_minibatches=4), jnp.zeros((7, 3), bool)
    odd = rljax.Transition(
        obs=jnp.zeros((7, 3, 4)),
        action=jnp.zeros((7, 3), jnp.int32),
        reward=jnp.zeros((7, 3)),
        terminated=flags,
        truncated=flags,
        next_obs=jnp.zeros((7, 3, 4)),
        extras={"behaviour_log_probs": jnp.zeros((7, 3))},
    )
    with pytest.raises(
        ValueError, match="divide the 21 steps of the trajectory, got 4"
    ):
        agent.update(agent.init(jax.random.key(0), ENV), odd, jax.random.key(0))


class Extended:
    """A network of floats with one more parameter."""

    def __init__(self, more):
        self.more = more

    def init(self, key, obs):
        return {"w": jnp.zeros((4, 2)), **self.more}

    def apply(self, params, obs):
        return obs @ params["w"], jnp.zeros(())


@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_a_stale_sample_can_be_kept_from_ending_a_run(dual_clip):
    # Of four samples one was all but impossible when it was drawn: r = ½ e^200. By
    # hand, L = −¼ Σ min(…) is infinite, and −¼ · (−3) with the dual clip.
    agent = rljax.PPO(
        **SMALL, network=Extended({}), normalize_advantages=False, dual_clip=dual_clip
    )
    flags, half = jnp.zeros(4, bool), jnp.log(0.5)
    steps = rljax.Transition(
        obs=jnp.ones((4, 4)),
        action=jnp.zeros(4, jnp.int32),
        reward=jnp.zeros(4),
        terminated=flags,
        truncated=flags,
        next_obs=jnp.ones((4, 4)),
        extras={"behaviour_log_probs": jnp.full(4, half).at[0].set(-200.0)},
    )
    advantages, zeros = jnp.array([-1.0, 0.0, 0.0, 0.0]), jnp.zeros(4)
    grads, metrics = jax.grad(agent._loss, has_aux=True)(
        Extended({}).init(None, None),
        distributions.Categorical(),
        steps,
        advantages,
        zeros,
        zeros,
    )
    assert np.isfinite(grads["w"]).all() == (dual_clip is not None)
    assert metrics["policy_loss"] == (np.inf if dual_clip is None else 0.75)
    # The other three have not moved; the one counts as if r were e^20.
    np.testing.assert_allclose(metrics["approx_kl"], (np.expm1(20) - 20) / 4, rtol=1e-5)
    assert metrics["clip_fraction"] == 0.25


@pytest.mark.parametrize("more", [7, True], ids=str)
def test_parameters_that_can_not_be_learned_are_refused(more):
    network = Extended({"step": jnp.asarray(more)})
    agent = rljax.PPO(**SMALL, network=network)
    with pytest.raises(TypeError, match=r"floating arrays.*params\['step'\]"):
        agent.init(jax.random.key(0), ENV)


def test_parameters_keep_their_dtypes():
    network = Extended({"b": jnp.zeros(3, jnp.bfloat16)})
    agent = rljax.PPO(**SMALL, network=network)
    state, _ = rljax.train(agent, ENV, jax.random.key(0), num_updates=1)
    dtypes = {k: v.dtype for k, v in state.agent_state.params.items()}
    assert dtypes == {"w": jnp.float32, "b": jnp.bfloat16}
