"""Agents with a reference policy: their gradients by enumeration and by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import rljax
from rljax import testing
from rljax.rlhf import networks as causal
from rljax.rlhf import optimum, preferences, rewards
from rljax.types import Transition
from tests.conftest import enable_x64
from tests.oracles import distributions
from tests.oracles import losses as losses_oracle
from tests.oracles import sequences as oracle

V, H = 2, 2
ROWS = 3
TABLE, CRITIC = causal.Table(V, H), causal.Table(V, H, outputs=1)
RNG = np.random.default_rng(9)
LOGITS, REFERENCE = 1.5 * RNG.normal(size=(2, ROWS, V))
REWARDS = RNG.normal(size=V**H)
VALUES = RNG.normal(size=(1, ROWS, 1))
BETA = 0.7
SMALL = {"rollout_length": H, "kl_coef": BETA}
GROUP = {
    **SMALL,
    "num_envs": 2,
    "group_size": 2,
    "network": TABLE,
    "optimizer": optax.sgd,
    "learning_rate": 1.0,
}


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


def env_of(rewards_, vocabulary_size=V, horizon=H):
    table = rewards.TableReward(jnp.asarray(rewards_)[None], vocabulary_size)
    return rljax.TokenMDP(table, vocabulary_size, horizon)


def trajectory_of(texts, extras=()):
    """Those texts side by side, as a rollout of them would be, [H, N]."""
    texts = jnp.asarray(texts, jnp.int32).T
    weights = 2 ** jnp.arange(H)[::-1]
    codes = jnp.sum(texts * weights[:, None], axis=0)
    obs = jnp.stack([jnp.zeros_like(codes), 1 + texts[0]])
    done = jnp.arange(H)[:, None] == H - 1
    done = jnp.broadcast_to(done, texts.shape)
    return Transition(
        obs=obs,
        action=texts,
        reward=jnp.where(done, jnp.asarray(REWARDS)[codes], 0),
        terminated=done,
        truncated=jnp.zeros_like(done),
        next_obs=jnp.stack([1 + texts[0], 3 + codes.astype(jnp.int32)]),
        extras=extras,
    )


def of_group_agent(agent):
    """Σ over all pairs of texts of π(y)π(y') · the gradient that an update takes."""
    state = agent.init(jax.random.key(0), env_of(REWARDS))
    state = state._replace(
        params=jnp.asarray(LOGITS)[None], reference_params=jnp.asarray(REFERENCE)[None]
    )

    @jax.jit
    @jax.vmap
    def gradient(texts):
        after, _ = agent.update(state, trajectory_of(texts), jax.random.key(0))
        return (state.params - after.params)[0]

    pairs = list(itertools.product(oracle.texts(V, H), repeat=2))
    weights = [np.exp(sum(oracle.log_probs(LOGITS, y).sum() for y in p)) for p in pairs]
    return np.einsum("p,puv->uv", weights, gradient(jnp.array(pairs)))


def of_ppo(agent):
    """The same of PPO with one episode, from Adam's first moment."""
    state = agent.init(jax.random.key(0), env_of(REWARDS))
    params = (jnp.asarray(LOGITS)[None], jnp.asarray(VALUES))
    state = state._replace(
        params=params, reference_params=(jnp.asarray(REFERENCE)[None], params[1])
    )

    @jax.jit
    @jax.vmap
    def gradient(text):
        trajectory = trajectory_of(text[None])
        log_probs = jax.nn.log_softmax(params[0][0][trajectory.obs])
        taken = jnp.take_along_axis(log_probs, trajectory.action[..., None], -1)[..., 0]
        trajectory = trajectory._replace(extras={"behaviour_log_probs": taken})
        after, _ = agent.update(state, trajectory, jax.random.key(0))
        _, as_params = ravel_pytree(after.params)
        moment = as_params(optax.tree.get(after.opt_state, "mu"))
        return moment[0][0] / 0.1 * H  # a mean over steps; wanted, their sum

    texts = oracle.texts(V, H)
    weights = [np.exp(oracle.log_probs(LOGITS, y).sum()) for y in texts]
    return np.einsum("p,puv->uv", weights, gradient(jnp.array(texts)))


PPO_ONCE = {
    **SMALL,
    "num_envs": 1,
    "num_epochs": 1,
    "num_minibatches": 1,
    "gae_lambda": 1.0,
    "max_grad_norm": None,
    "value_coef": 0.0,
    "network": causal.Pair(TABLE, CRITIC),
}
AGENTS = {
    "RLOO": (rljax.RLOO, GROUP, of_group_agent, 1.0),
    # Its baseline holds the episode itself: (G − 1)/G of the gradient by the reward.
    "GRPO": (
        rljax.GRPO,
        GROUP | {"normalize_advantages": False, "num_epochs": 1},
        of_group_agent,
        0.5,
    ),
    "PPOKL": (rljax.PPOKL, PPO_ONCE, of_ppo, 1.0),
}


def kl_term(kl_in, estimator):
    """What β multiplies: the table in `rljax.rlhf.kl`."""
    if kl_in == "loss":
        if estimator == "k3":
            return oracle.step_reverse_kl_gradient(LOGITS, REFERENCE, H)
        return oracle.step_kl_gradient(LOGITS, REFERENCE, H)
    kl = oracle.kl_gradient(LOGITS, REFERENCE, H)
    if estimator == "k1":
        return kl
    if estimator == "k3":
        return kl - oracle.step_reverse_kl_gradient(LOGITS, REFERENCE, H)
    return mean_k2_gradient() - oracle.step_kl_gradient(LOGITS, REFERENCE, H)


@functools.cache
def mean_k2_gradient():
    """∇E_π[Σ_t k2_t], k2's own slope included, by central differences."""

    def mean(logits):
        return oracle.expectation(
            logits,
            H,
            lambda y: distributions.k2(
                oracle.log_probs(logits, y), oracle.log_probs(REFERENCE, y)
            )[0].sum(),
        )

    gradient = np.zeros_like(LOGITS)
    for at in np.ndindex(LOGITS.shape):
        step = np.zeros_like(LOGITS)
        step[at] = 1e-3
        # Of fourth order: the error is some 1e-12.
        near, far = (mean(LOGITS + h * step) - mean(LOGITS - h * step) for h in (1, 2))
        gradient[at] = (8 * near - far) / 12e-3
    return gradient


PAIRS = [
    ("reward", "k1"),
    ("reward", "k2"),
    ("reward", "k3"),
    ("loss", "exact"),
    ("loss", "k2"),
    ("loss", "k3"),
]


@pytest.mark.parametrize("credit", ["token", "sequence"])
@pytest.mark.parametrize(("kl_in", "estimator"), PAIRS)
@pytest.mark.parametrize("name", ["RLOO", slow("PPOKL"), slow("GRPO")])
def test_the_expected_gradient_is_as_documented(x64, name, kl_in, estimator, credit):
    """By enumeration: minus ∇E[r], plus β times what the table says."""
    kind, settings, measured, scale = AGENTS[name]
    agent = kind(**settings, kl_in=kl_in, kl_estimator=estimator, credit=credit)
    earned = oracle.reward_gradient(LOGITS, REWARDS, H)
    term = kl_term(kl_in, estimator)
    if kl_in == "reward":
        expected = scale * (BETA * term - earned)
    else:
        expected = BETA * term - scale * earned
    found = measured(agent)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    assert np.abs(term).max() > 0.05  # so that no sign of it could be lost
    # Only k1 in the reward follows the objective.
    right = scale * (BETA * oracle.kl_gradient(LOGITS, REFERENCE, H) - earned)
    error = np.abs(found - right).max()
    assert error < 1e-10 if (kl_in, estimator) == ("reward", "k1") else error > 0.05


@pytest.mark.slow
def test_at_the_optimum_the_default_has_no_variance(x64):
    """r − β Σ k1 is the same for all texts there: no sample moves the policy."""
    env = env_of(REWARDS)
    reference = jnp.asarray(REFERENCE)[None]
    policy = jax.nn.softmax(jnp.concatenate([reference[0], jnp.zeros((4, V))]))
    plan = optimum.soft_value_iteration(env.to_mdp(), policy, BETA)
    agent = rljax.RLOO(**GROUP)
    state = agent.init(jax.random.key(0), env)._replace(
        params=plan.log_policy[None, :ROWS], reference_params=reference
    )

    @jax.jit
    @jax.vmap
    def params_after(texts):
        after, _ = agent.update(state, trajectory_of(texts), jax.random.key(0))
        return after.params

    pairs = jnp.array(list(itertools.product(oracle.texts(V, H), repeat=2)))
    for params in params_after(pairs):
        np.testing.assert_allclose(params, state.params, atol=1e-12)


# One whole update against loops. Episodes of any length, two in some rollouts.

LENGTH, COUNT, STATES, ACTIONS = 5, 6, 4, 3


class Rows:
    """A table over any states, as a network."""

    def init(self, key, obs):
        return jnp.zeros((STATES, ACTIONS), float)

    def apply(self, params, obs):
        return params[obs]


ROWS_NETWORK = Rows()


@functools.cache
def case():
    rng = np.random.default_rng(1)
    shape = (LENGTH, COUNT)
    tables = rng.normal(size=(3, STATES, ACTIONS))
    trajectory = Transition(
        obs=rng.integers(0, STATES, shape).astype(np.int32),
        action=rng.integers(0, ACTIONS, shape).astype(np.int32),
        reward=rng.normal(size=shape),
        terminated=rng.random(shape) < 0.25,
        truncated=rng.random(shape) < 0.1,
        next_obs=rng.integers(0, STATES, shape).astype(np.int32),
        extras=(),
    )
    done = trajectory.terminated | trajectory.truncated
    firsts = [
        int(np.argmax(done[:, n])) + 1 if done[:, n].any() else LENGTH
        for n in range(COUNT)
    ]
    assert len(set(firsts)) >= 3  # of several lengths, one cut at the end or more
    assert LENGTH in firsts
    episodes = [
        [
            (trajectory.obs[t, n], trajectory.action[t, n], trajectory.reward[t, n])
            for t in range(firsts[n])
        ]
        for n in range(COUNT)
    ]
    return tables, trajectory, episodes


class Bare:
    """Just the spaces that `init` asks for."""

    observation_space = rljax.spaces.Discrete(STATES)
    action_space = rljax.spaces.Discrete(ACTIONS)


ESTIMATES = {"k1": distributions.k1, "k2": distributions.k2, "k3": distributions.k3}


@pytest.mark.parametrize("kl", PAIRS)
@pytest.mark.parametrize("credit", ["token", "sequence"])
@pytest.mark.parametrize("kind", [slow("RLOO"), "GRPO"])
def test_an_update_equals_its_loops(x64, kind, credit, kl):
    tables, trajectory, episodes = case()
    settings = {
        "num_envs": COUNT,
        "group_size": 3,
        "rollout_length": LENGTH,
        "network": ROWS_NETWORK,
        "optimizer": optax.sgd,
        "learning_rate": 0.3,
        "kl_coef": BETA,
        "kl_in": kl[0],
        "kl_estimator": kl[1],
        "credit": credit,
    }
    grpo = kind == "GRPO"
    steps = 3 if grpo else 1
    agent = (
        rljax.GRPO(**settings, num_epochs=steps, clip_epsilon=0.1)
        if grpo
        else rljax.RLOO(**settings)
    )
    state = agent.init(jax.random.key(0), Bare)._replace(
        params=jnp.asarray(tables[0]), reference_params=jnp.asarray(tables[1])
    )
    after, metrics = jax.jit(agent.update)(
        state, jax.tree.map(jnp.asarray, trajectory), jax.random.key(0)
    )
    params = tables[0]
    for _ in range(steps):
        gradient = oracle.group_gradient(
            params,
            tables[0],
            tables[1],
            episodes,
            3,
            kl_coef=BETA,
            kl_in=kl[0],
            estimate=ESTIMATES.get(kl[1]),
            credit=credit,
            clip_epsilon=0.1 if grpo else None,
            deviation=grpo,
            leave_one_out=not grpo,
        )
        params = params - 0.3 * gradient
    np.testing.assert_allclose(after.params, params, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(after.reference_params, tables[1])
    kl_of = [
        sum(distributions.kl(tables[0][s], tables[1][s]) for s, _, _ in episode)
        for episode in episodes
    ]
    np.testing.assert_allclose(metrics["kl"], np.mean(kl_of), rtol=1e-10)
    assert metrics["beta"] == after.kl_coef == BETA


def ppo_case(**changes):
    """A PPOKL in the rows' environment, with a state and a trajectory."""
    tables, trajectory, _ = case()
    settings = {
        "num_envs": COUNT,
        "rollout_length": LENGTH,
        "network": causal.Pair(ROWS_NETWORK, RowCritic()),
        "kl_coef": BETA,
        "discount": 0.9,
        "gae_lambda": 0.8,
    }
    agent = rljax.PPOKL(**(settings | changes))
    values = jnp.asarray(tables[2][:, :1])
    state = agent.init(jax.random.key(0), Bare)._replace(
        params=(jnp.asarray(tables[0]), values),
        reference_params=(jnp.asarray(tables[1]), values),
    )
    behaviour = 0.3 * np.random.default_rng(2).normal(size=(LENGTH, COUNT)) - 1
    trajectory = jax.tree.map(jnp.asarray, trajectory)
    trajectory = trajectory._replace(extras={"behaviour_log_probs": behaviour})
    return agent, state, trajectory, tables


class RowCritic(Rows):
    """One value per state."""

    def init(self, key, obs):
        return jnp.zeros((STATES, 1), float)


def plain_ppo(agent):
    names = [f.name for f in rljax.PPO.__dataclass_fields__.values()]
    return rljax.PPO(**{name: getattr(agent, name) for name in names})


@pytest.mark.parametrize("credit", ["token", "sequence"])
@pytest.mark.parametrize("estimator", ["k1", slow("k2"), slow("k3")])
def test_ppo_with_the_price_in_the_reward_is_ppo_on_other_rewards(
    x64, estimator, credit
):
    agent, state, trajectory, tables = ppo_case(credit=credit, kl_estimator=estimator)
    priced = np.array(trajectory.reward)
    for n in range(COUNT):
        total = 0.0
        for t in range(LENGTH):
            s, a = trajectory.obs[t, n], trajectory.action[t, n]
            k = ESTIMATES[estimator](
                *(distributions.log_softmax(tables[i][s])[a] for i in (0, 1))
            )[0]
            total += k
            done = trajectory.terminated[t, n] or trajectory.truncated[t, n]
            if credit == "token":
                priced[t, n] -= BETA * k
            elif done or t == LENGTH - 1:
                priced[t, n] -= BETA * total
            total = 0.0 if done else total
    ours, metrics = jax.jit(agent.update)(state, trajectory, jax.random.key(0))
    theirs, _ = jax.jit(plain_ppo(agent).update)(
        state, trajectory._replace(reward=jnp.asarray(priced)), jax.random.key(0)
    )
    for x, y in zip(
        jax.tree.leaves(ours.params), jax.tree.leaves(theirs.params), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)
    ends = np.asarray(trajectory.terminated | trajectory.truncated).sum()
    kl = sum(
        distributions.kl(tables[0][s], tables[1][s])
        for s in np.asarray(trajectory.obs).ravel()
    )
    np.testing.assert_allclose(metrics["kl"], kl / ends, rtol=1e-10)


@pytest.mark.parametrize("estimator", ["exact", "k2", "k3"])
def test_ppo_with_the_price_in_the_loss_adds_its_gradient(x64, estimator):
    once = {"num_epochs": 1, "num_minibatches": 1, "max_grad_norm": None}
    agent, state, trajectory, tables = ppo_case(
        kl_in="loss", kl_estimator=estimator, **once
    )

    def gradient(agent):
        after, _ = jax.jit(agent.update)(state, trajectory, jax.random.key(0))
        _, as_params = ravel_pytree(after.params)
        return np.asarray(as_params(optax.tree.get(after.opt_state, "mu"))[0]) / 0.1

    expected = gradient(plain_ppo(agent))
    for t, n in np.ndindex(LENGTH, COUNT):
        s, a = trajectory.obs[t, n], trajectory.action[t, n]
        z, w = tables[0][s], tables[1][s]
        if estimator == "exact":
            slope = distributions.kl_gradient(z, w)
        else:
            log_probs = (distributions.log_softmax(x)[a] for x in (z, w))
            slope = ESTIMATES[estimator](*log_probs)[1]
            slope = slope * distributions.log_prob_gradient(z, a)
        expected[s] += BETA * slope / (LENGTH * COUNT)
    np.testing.assert_allclose(gradient(agent), expected, rtol=1e-9, atol=1e-12)


def test_without_a_price_it_is_ppo_to_the_bit():
    agent, state, trajectory, _ = ppo_case(kl_coef=0.0)
    trajectory = jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, trajectory
    )
    ours, _ = jax.jit(agent.update)(state, trajectory, jax.random.key(0))
    theirs, _ = jax.jit(plain_ppo(agent).update)(state, trajectory, jax.random.key(0))
    for x, y in zip(
        jax.tree.leaves(ours.params), jax.tree.leaves(theirs.params), strict=True
    ):
        np.testing.assert_array_equal(x, y)


# DPO.


def test_a_dpo_update_equals_its_loops(x64):
    texts = oracle.texts(V, H)
    both = itertools.permutations(texts, 2)
    chosen, rejected = (np.array(x) for x in zip(*both, strict=True))
    chosen, rejected = chosen[2:9], rejected[2:9]  # not every pair both ways
    agent = rljax.DPO(
        preferences=preferences.Preferences(np.zeros(7, int), chosen, rejected, V),
        rollout_length=H,
        network=TABLE,
        kl_coef=BETA,
        optimizer=optax.sgd,
        learning_rate=0.3,
        num_envs=2,
    )
    state = agent.init(jax.random.key(0), env_of(REWARDS))._replace(
        params=jnp.asarray(LOGITS)[None], reference_params=jnp.asarray(REFERENCE)[None]
    )
    update = jax.jit(agent.update)
    after, metrics = update(state, trajectory_of([(0, 1), (1, 1)]), jax.random.key(0))
    gradient = oracle.dpo_gradient(LOGITS, REFERENCE, chosen, rejected, BETA)
    np.testing.assert_allclose(
        after.params[0], LOGITS - 0.3 * gradient, rtol=1e-10, atol=1e-12
    )
    margins = np.array(
        [
            BETA
            * sum(
                sign
                * (oracle.log_probs(LOGITS, y) - oracle.log_probs(REFERENCE, y)).sum()
                for sign, y in ((1, above), (-1, below))
            )
            for above, below in zip(chosen, rejected, strict=True)
        ]
    )
    np.testing.assert_allclose(metrics["margin"], margins.mean(), rtol=1e-10)
    np.testing.assert_allclose(metrics["loss"], np.log1p(np.exp(-margins)).mean())
    np.testing.assert_allclose(metrics["accuracy"], (margins > 0).mean())
    # Before anything is learned no pair is in order or out of it.
    at_start = state._replace(params=state.reference_params)
    _, metrics = update(at_start, trajectory_of([(0, 1), (1, 1)]), jax.random.key(0))
    assert metrics["accuracy"] == 0.5


@functools.cache
def dpo_run():
    """DPO on 20,000 preferences of a problem with 27 texts, and its data."""
    v, h = 3, 3
    rng = np.random.default_rng(4)
    rewards_ = 1.5 * rng.normal(size=27)
    env = env_of(rewards_, v, h)
    table = causal.Table(v, h)
    reference = 0.3 * jnp.asarray(rng.normal(size=(1, 13, v)))
    log_probs = rljax.rlhf.sequences.sequence_log_probs(
        jax.nn.log_softmax(reference), h
    )
    pairs = preferences.sample_preferences(
        env, log_probs, jax.random.key(0), num_pairs=20_000
    )
    agent = rljax.DPO(
        preferences=pairs,
        rollout_length=h,
        num_envs=2,
        network=table,
        reference=reference,
        kl_coef=0.5,
        learning_rate=0.3,
        anneal_updates=300,
    )
    state, metrics = rljax.train(
        agent,
        env,
        jax.random.key(1),
        num_updates=300,
        measure=optimum.measure,
    )
    return env, pairs, log_probs, agent, state.agent_state, metrics.agent


def bradley_terry_fit(chosen, rejected, size):
    """The rewards of most likelihood, by Newton's method; the first is 0."""
    wins = np.zeros((size, size))
    np.add.at(wins, (chosen, rejected), 1)
    games = wins + wins.T
    r = np.zeros(size)
    for _ in range(50):
        p = 1 / (1 + np.exp(r[None] - r[:, None]))
        slope = (wins - games * p).sum(axis=1)
        weight = games * p * (1 - p)
        hessian = np.diag(weight.sum(axis=1)) - weight
        r[1:] += np.linalg.solve(hessian[1:, 1:], slope[1:])
    margins = (r[:, None] - r[None])[wins > 0]
    loss = (wins[wins > 0] * np.log1p(np.exp(-margins))).sum() / wins.sum()
    return r, loss


@pytest.mark.slow
def test_dpo_reaches_the_optimum_of_its_own_loss_and_the_ranking():
    env, pairs, log_probs, agent, state, metrics = dpo_run()
    chosen, rejected = (
        np.asarray(rljax.rlhf.sequences.code(y, 3))
        for y in (pairs.chosen, pairs.rejected)
    )
    best, best_loss = bradley_terry_fit(chosen, rejected, 27)
    # Its table can express any distribution over texts, so any rewards.
    assert best_loss - 1e-6 < metrics["loss"][-1] < best_loss + 1e-4
    ratio = optimum.log_probs_of(agent, state, env) - log_probs
    implicit = 0.5 * np.asarray(ratio[0], float)
    centred = [x - x.mean() for x in (implicit, best)]
    np.testing.assert_allclose(*centred, atol=0.03)
    true = np.asarray(env.sequence_rewards()[0], float)
    right = np.sign(implicit[:, None] - implicit) == np.sign(true[:, None] - true)
    apart = np.abs(true[:, None] - true) > 0.5
    assert right[apart].all()  # ranks all texts that differ by more than ½
    assert right.mean() > 0.95
    # And with that it is near the optimum of the objective, which it never saw.
    assert metrics["exact_gap"][-1] < 0.02 * abs(metrics["exact_optimum"][-1])
    assert metrics["exact_gap"][0] > 0.2 * abs(metrics["exact_optimum"][0])


# In training.

TINY = rljax.TokenMDP(rewards.BigramReward.random(3, 3, jax.random.key(0)), 3, 3)
TINY_TABLE = causal.Table(3, 3)
TINY_AGENTS = {
    "ppo": rljax.PPOKL(
        num_envs=32,
        rollout_length=3,
        network=causal.Pair(TINY_TABLE, causal.Table(3, 3, outputs=1)),
    ),
    "rloo": rljax.RLOO(num_envs=32, group_size=8, rollout_length=3, network=TINY_TABLE),
    "grpo": rljax.GRPO(num_envs=32, group_size=8, rollout_length=3, network=TINY_TABLE),
    "dpo": rljax.DPO(
        preferences=preferences.sample_preferences(
            TINY,
            jnp.full((1, 27), -3 * np.log(3)),
            jax.random.key(0),
            num_pairs=64,
        ),
        rollout_length=3,
        network=TINY_TABLE,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY_AGENTS)
def test_the_contract_of_agents_holds(name):
    testing.check_agent(TINY_AGENTS[name], TINY, jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rloo", slow("ppo"), slow("grpo")])
def test_a_great_price_holds_the_reference_and_none_gives_the_best_text(name):
    kind = TINY_AGENTS[name]
    reference = jax.random.normal(jax.random.key(3), (1, 13, 3))
    given = (reference, jnp.zeros((1, 13, 1))) if name == "ppo" else reference

    def run(kl_coef):
        agent = kind.__class__(
            **{f: getattr(kind, f) for f in ("num_envs", "rollout_length", "network")},
            **({} if name == "ppo" else {"group_size": 8}),
            reference=given,
            kl_coef=kl_coef,
            anneal_updates=600,
        )
        state, metrics = rljax.train(
            agent, TINY, jax.random.key(1), num_updates=600, measure=optimum.measure
        )
        log_probs = optimum.log_probs_of(agent, state.agent_state, TINY)
        return log_probs, metrics.agent

    log_probs, metrics = jax.jit(jax.vmap(run))(jnp.array([0.0, 1e4]))
    best = np.argmax(TINY.sequence_rewards())
    assert np.argmax(log_probs[0]) == best
    assert np.exp(log_probs[0]).max() > 0.98
    assert metrics["exact_gap"][0, -1] < 0.02 * abs(metrics["exact_optimum"][0, -1])
    assert metrics["exact_kl"][1].max() < 0.1
    assert metrics["exact_kl"][1, -1] < 1e-3
    # Where it starts: at the reference, and π_ref stays what it was.
    np.testing.assert_allclose(metrics["kl"][:, 0], 0, atol=1e-6)


@pytest.mark.slow
def test_the_price_adapts_until_the_divergence_is_what_it_should_be():
    agent = rljax.RLOO(
        num_envs=64,
        group_size=8,
        rollout_length=3,
        network=TINY_TABLE,
        kl_coef=0.1,
        kl_target=0.5,
        kl_rate=0.03,
    )
    state, metrics = rljax.train(
        agent, TINY, jax.random.key(0), num_updates=1500, measure=optimum.measure
    )
    late = metrics.agent["exact_kl"][-300:]
    np.testing.assert_allclose(late.mean(), 0.5, rtol=0.03)
    assert metrics.agent["exact_kl"].max() > 1  # where the first price would lead
    coefs = metrics.agent["beta"]
    assert coefs[0] == np.float32(0.1)
    # β_{t+1} from β_t and the KL of the rollout in between.
    expected = rljax.rlhf.kl.adapted_kl_coef(
        coefs[:-1], metrics.agent["kl"][:-1], 0.5, 0.03
    )
    np.testing.assert_allclose(coefs[1:], expected, rtol=1e-6)
    assert state.agent_state.kl_coef != coefs[-1]


@rljax.struct.dataclass
class Recorder(rljax.RLOO):
    """Says in its metrics what its rollouts begin with."""

    def update(self, state, trajectory, key):
        return state, {"starts": trajectory.obs[0]}


def test_groups_begin_with_one_prompt():
    env = rljax.TokenMDP(lambda prompt, tokens: 1.0 * prompt, 2, 2, num_prompts=50)
    agent = Recorder(num_envs=12, group_size=4, rollout_length=2)
    _, metrics = rljax.train(agent, env, jax.random.key(0), num_updates=3)
    groups = metrics.agent["starts"].reshape(3, 3, 4)
    np.testing.assert_array_equal(groups, groups[..., :1].repeat(4, axis=-1))
    assert len(np.unique(groups)) >= 6  # of 9 groups, as some meet by chance


@pytest.mark.slow
def test_vmapped_prices_and_a_sweep_are_the_lone_runs():
    agent, env = TINY_AGENTS["grpo"], TINY
    run = functools.partial(rljax.train, num_updates=3, measure=optimum.measure)
    prices = jnp.array([0.05, 1.0])
    result = rljax.sweep(
        agent,
        env,
        jax.random.key(0),
        num_seeds=2,
        num_updates=3,
        settings={"kl_coef": [0.05, 1.0]},
        measure=optimum.measure,
    )
    keys = jax.random.split(jax.random.split(jax.random.key(0))[0], 2)
    vmapped = jax.vmap(
        lambda beta: run(
            rljax.GRPO(
                num_envs=32,
                group_size=8,
                rollout_length=3,
                network=TINY_TABLE,
                kl_coef=beta,
            ),
            env,
            keys[1],
        )
    )(prices)
    for i in range(2):
        swept = result[i].metrics.agent
        for name, values in vmapped[1].agent.items():
            np.testing.assert_allclose(
                values[i], swept[name][1], rtol=1e-4, atol=1e-5, err_msg=name
            )
    assert {"exact_gap", "exact_kl", "exact_reward", "exact_kl_to_optimum"} < set(swept)
    table = result.to_xarray().exact_gap.sel(kl_coef=1.0)
    np.testing.assert_array_equal(table, result[1].metrics.agent["exact_gap"])


@pytest.mark.slow
def test_other_networks_learn_the_same():
    for network, rate in (
        (causal.MLP(3, 3, hidden_sizes=(32,)), 0.01),
        (causal.Transformer(3, 3, width=16), 0.01),
    ):
        agent = rljax.RLOO(
            num_envs=64,
            group_size=8,
            rollout_length=3,
            network=network,
            learning_rate=rate,
            anneal_updates=150,
            kl_coef=0.2,
        )
        _, metrics = rljax.train(
            agent, TINY, jax.random.key(0), num_updates=150, measure=optimum.measure
        )
        found = metrics.agent
        assert found["exact_gap"][-1] < 0.05 * abs(found["exact_optimum"][-1])
        assert found["exact_gap"][0] > 0.3 * abs(found["exact_optimum"][0])


@pytest.mark.parametrize("kl_in", ["reward", "loss"])
def test_a_token_that_the_policy_has_left_can_be_bounded(kl_in):
    """k3 = e^−d − 1 + d overflows at d = −99; cut at −20 it is e^20 − 21."""
    texts = jnp.array([[0, 1], [1, 1]], jnp.int32)
    agent = rljax.RLOO(
        **GROUP, kl_in=kl_in, kl_estimator="k3", kl_max_log_ratio=20.0, credit="token"
    )
    state = agent.init(jax.random.key(0), env_of(REWARDS))
    away = jnp.zeros_like(state.params).at[0, 0].set(jnp.array([-99.0, 0.0]))
    state = state._replace(params=away, reference_params=-away)
    trajectory = trajectory_of(texts)
    logits = agent.over_steps(away, trajectory.obs)
    estimates = agent.price.estimates(logits, -logits, trajectory.action)
    expected = [[np.expm1(20) - 20, np.expm1(-20) + 20], [0, 0]]
    np.testing.assert_allclose(estimates, expected, rtol=1e-6, atol=1e-6)
    after, metrics = jax.jit(agent.update)(state, trajectory, jax.random.key(0))
    for leaf in jax.tree.leaves((after, metrics)):
        assert np.isfinite(leaf).all()
    ppo = rljax.PPOKL(**PPO_ONCE, kl_in=kl_in, kl_estimator="k3", kl_max_log_ratio=20.0)
    assert ppo.price == agent.price


def test_grpo_takes_the_dual_clip():
    agent = rljax.GRPO(dual_clip=1.5)
    old, new, advantages = RNG.normal(size=(3, 4, 5))
    found = agent._policy_loss(*map(jnp.asarray, (new, old, advantages)))
    expected, _ = losses_oracle.ppo_clip(new, old, advantages, 0.2, 1.5)
    np.testing.assert_allclose(found, 4 * expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: rljax.RLOO(group_size=1),
            ValueError,
            "RLOO.group_size must be at lea",
        ),
        (
            lambda: rljax.GRPO(num_envs=10, group_size=4),
            ValueError,
            "GRPO.group_size must divide num_envs = 10, got 4",
        ),
        (
            lambda: rljax.GRPO(num_epochs=0),
            ValueError,
            "GRPO.num_epochs must be at lea",
        ),
        (
            lambda: rljax.GRPO(clip_epsilon=-1.0),
            ValueError,
            "GRPO.clip_epsilon must be",
        ),
        (lambda: rljax.GRPO(dual_clip=1.0), ValueError, "GRPO.dual_clip must be finit"),
        (lambda: rljax.PPO(dual_clip=-3), ValueError, "PPO.dual_clip must be finite "),
        (lambda: rljax.PPOKL(kl_coef=-0.1), ValueError, "PPOKL.kl_coef must be finite"),
        (
            lambda: rljax.RLOO(anneal_updates=0),
            ValueError,
            "RLOO.anneal_updates must b",
        ),
        (
            lambda: rljax.RLOO(optimizer=0.1),
            TypeError,
            "RLOO.optimizer must be a funct",
        ),
        (
            lambda: rljax.DPO(preferences=None),
            TypeError,
            "DPO.preferences must be a rljax.rlhf.preferen",
        ),
        (
            lambda: rljax.DPO(preferences=TINY_AGENTS["dpo"].preferences, kl_coef=0.0),
            ValueError,
            "DPO.kl_coef must be finite and more than 0, got 0",
        ),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_does_not_fit_together_is_refused():
    key = jax.random.key(0)
    agent = rljax.RLOO(network=TINY_TABLE, reference=jnp.zeros((1, 12, 3)))
    with pytest.raises(ValueError, match="RLOO.reference must be parameters as the ag"):
        agent.init(key, TINY)
    pair = causal.Pair(TINY_TABLE, causal.Table(3, 3, outputs=1))
    agent = rljax.PPOKL(network=pair, reference=jnp.zeros((1, 13, 3)))
    with pytest.raises(ValueError, match="PPOKL.reference must be parameters as the a"):
        agent.init(key, TINY)
    other = rljax.TokenMDP(lambda prompt, tokens: 0.0, 3, 3, num_prompts=2)
    with pytest.raises(ValueError, match="DPO.preferences are of .*'num_prompts': 1"):
        TINY_AGENTS["dpo"].init(key, other)
    with pytest.raises(ValueError, match="DPO.preferences are of .*has .*None"):
        rljax.DPO(preferences=TINY_AGENTS["dpo"].preferences).init(
            key, rljax.make("GridWorld-5x5")
        )
    with pytest.raises(ValueError, match="kl_coef'?.* must be a scalar here"):
        rljax.RLOO(kl_coef=jnp.array([0.1, 0.2])).init(key, TINY)


@pytest.mark.parametrize(
    "network",
    [
        causal.Table(3, 3, num_prompts=2),
        causal.Table(3, 4),
        causal.MLP(3, 2),
        causal.Pair(TINY_TABLE, causal.Table(3, 4, outputs=1)),
    ],
)
def test_a_network_for_another_problem_is_refused(network):
    kind = rljax.PPOKL if isinstance(network, causal.Pair) else rljax.RLOO
    agent = kind(network=network, rollout_length=3)
    with pytest.raises(
        ValueError, match=r"network reads .* but the environment has Di"
    ):
        agent.init(jax.random.key(0), TINY)


def test_rollouts_that_do_not_hold_whole_sequences_are_refused():
    for kind in (rljax.RLOO, rljax.GRPO):
        with pytest.raises(
            ValueError, match="rollout_length must be at least the horiz"
        ):
            kind(network=TINY_TABLE, rollout_length=2).init(jax.random.key(0), TINY)
    pair = causal.Pair(TINY_TABLE, causal.Table(3, 3, outputs=1))
    agent = rljax.PPOKL(network=pair, kl_target=1.0)
    with pytest.raises(
        ValueError, match="rollout_length must be a multiple of the env"
    ):
        agent.init(jax.random.key(0), TINY)
    rljax.PPOKL(network=pair).init(jax.random.key(0), TINY)


def test_a_critic_of_many_values_is_refused():
    agent = rljax.PPOKL(network=causal.Pair(TINY_TABLE, TINY_TABLE))
    with pytest.raises(
        ValueError, match=r"Pair.critic must return one value, \[1\], ret"
    ):
        agent.init(jax.random.key(0), TINY)


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("x", TypeError, "RLOO.reference must hold real numbers, got 'x'"),
        (np.zeros(3, complex), TypeError, "RLOO.reference must hold real numbers"),
        ({"a": np.full(3, np.nan)}, ValueError, r"RLOO.reference\['a'\] must .* NaN"),
    ],
)
def test_a_reference_that_holds_no_numbers_is_refused(reference, error, message):
    with pytest.raises(error, match=message):
        rljax.RLOO(network=TINY_TABLE, reference=reference)


def test_the_reference_is_the_first_policy_unless_given():
    agent = rljax.RLOO(network=causal.MLP(3, 3))
    state = agent.init(jax.random.key(0), TINY)
    for x, y in zip(
        jax.tree.leaves(state.params),
        jax.tree.leaves(state.reference_params),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)
    given = jax.tree.map(lambda x: np.asarray(x) + 1, state.params)
    agent = rljax.RLOO(network=causal.MLP(3, 3), reference=given)
    started = jax.jit(agent.init, static_argnums=1)(jax.random.key(1), TINY_HASHABLE)
    logits = agent.logits(started, jnp.int32(4))
    np.testing.assert_array_equal(logits, agent.reference_logits(started, jnp.int32(4)))
    np.testing.assert_allclose(
        logits, causal.MLP(3, 3).apply(given, jnp.int32(4)), rtol=1e-6
    )


TINY_HASHABLE = rljax.TokenMDP(lambda prompt, tokens: jnp.sum(tokens) * 1.0, 3, 3)


@pytest.mark.slow
def test_x64_reaches_everything():
    with enable_x64():
        env = rljax.TokenMDP(rewards.BigramReward.random(3, 3, jax.random.key(0)), 3, 3)
        for name in ("ppo", "rloo", "grpo", "dpo"):
            state, metrics = rljax.train(
                TINY_AGENTS[name], env, jax.random.key(0), num_updates=2
            )
            kinds = {
                x.dtype
                for x in jax.tree.leaves((state.agent_state.params, metrics.agent))
            }
            assert kinds == {jnp.dtype(jnp.float64)}, name


def test_an_adapted_price_finds_back():
    # At K = 4 it falls fivefold an update while the policy is near the reference, and
    # from 0 it could never rise again.
    reward = lambda prompt, tokens: 5.0 * jnp.mean(tokens == 1, dtype=float)  # noqa: E731
    env = rljax.TokenMDP(reward, vocabulary_size=3, horizon=2)
    agent = rljax.RLOO(
        num_envs=64, rollout_length=2, kl_target=0.5, kl_rate=4.0, learning_rate=2e-3
    )
    _, metrics = rljax.train(agent, env, jax.random.key(0), num_updates=1000)
    coefs = metrics.agent["beta"]
    assert coefs.min() >= agent.kl_coef / 1e4 * (1 - 1e-6)
    assert coefs[100:].max() > agent.kl_coef
    # Not as near as at a small rate, but not left alone either.
    assert 0.1 < metrics.agent["kl"][-300:].mean() < 0.9


def test_a_batch_of_pairs_may_be_one():
    preferences = TINY_AGENTS["dpo"].preferences
    assert rljax.DPO(preferences=preferences, batch_size=1).batch_size == 1
    with pytest.raises(ValueError, match="DPO.batch_size must be at least 1, got 0"):
        rljax.DPO(preferences=preferences, batch_size=0)


def test_grpo_compares_a_group_with_its_mean_where_it_divides_by_nothing():
    agent = rljax.GRPO(normalize_advantages=False)
    found = agent._compare(jnp.array([1.0, 2.0, 6.0]))
    np.testing.assert_allclose(found, [-2, -1, 3], rtol=1e-6)
    # The mean of equal numbers is rounded, and may differ from them.
    assert (agent._compare(jnp.full(7, 0.1)) == 0).all()
