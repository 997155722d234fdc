"""The gradient that REINFORCE makes of one episode: signal, noise and bias.

    g_b = Σ_t (G_t − b_t) ∇log π(a_t|s_t)

of policies in random MDPs, where all episodes are enumerated, and on CartPole, where
some are drawn.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import rljax
from rljax import distributions, losses, parallel, returns, rollout
from rljax.testing import gradients

NUM_STATES, NUM_ACTIONS = 3, 2


class Moments(NamedTuple):
    """Of P policies and B baselines, the first of which is none."""

    signal: np.ndarray
    """[P] ‖∇J‖²."""
    noise: np.ndarray
    """[B, P] tr Cov[g_b]."""
    bias: np.ndarray
    """[B, P] ‖E[g_b] − ∇J‖²; where episodes are drawn an unbiased estimate, which may
    be below 0, of ‖E[g_b] − E[g]‖²."""


def gradient(log_probs: Any, params: Any, weights: jax.Array) -> jax.Array:
    """Σ_t w_t ∇log π(a_t|s_t), [D], for weights [T] and a function log π(a|s), [T]."""

    def loss(params):
        return losses.policy_gradient_loss(log_probs(params), weights)

    return -len(weights) * ravel_pytree(jax.grad(loss)(params))[0]


# Random MDPs.

BASELINES = ("none", "mean return", "V(s)", "best constant")


def enumerated(num_policies: int, horizon: int, peek: float = 0.0) -> Moments:
    """Exact moments in MDPs of 3 states and 2 actions, in double precision.

    Rewards are uniform in [0, 1], transitions and initial state uniform among
    distributions, logits N(0, 1); γ = 1. The baselines are 0, E[G_t] over all steps,
    V_t(s) = E[G_t|s_t = s], and the constant that leaves the least noise.

    Args:
      num_policies: P, each in an MDP of its own.
      horizon: steps of an episode, T.
      peek: added to every baseline where the action is 1, which no baseline may do.
    """
    rng = np.random.default_rng(0)
    shape = (num_policies, NUM_STATES)
    problems = (
        rng.dirichlet(np.ones(NUM_STATES), num_policies),
        rng.dirichlet(np.ones(NUM_STATES), (*shape, NUM_ACTIONS)),
        rng.uniform(size=(*shape, NUM_ACTIONS)),
        rng.normal(size=(*shape, NUM_ACTIONS)),
    )
    pairs = itertools.product(range(NUM_STATES), range(NUM_ACTIONS))
    episodes = np.array(list(itertools.product(pairs, repeat=horizon)))
    with gradients.enable_x64():
        # The episodes are an argument: XLA would fold constants of this size for long.
        run = jax.jit(
            lambda episodes, problems: jax.lax.map(
                lambda problem: _exact(episodes, peek, *problem), problems
            )
        )
        signal, noise, bias = run(episodes, problems)
        return Moments(np.asarray(signal), np.asarray(noise).T, np.asarray(bias).T)


def _exact(episodes, peek, initial, transitions, rewards, logits):
    """‖∇J‖², tr Cov [B] and ‖bias‖² [B] for episodes [N, T, 2]: states and actions."""
    states, actions = episodes[..., 0], episodes[..., 1]

    def values(logits):
        """V_t(s), [T, S]."""
        found = [jnp.zeros(NUM_STATES, logits.dtype)]
        for _ in range(states.shape[1]):
            q = rewards + transitions @ found[0]
            found.insert(0, jnp.sum(jax.nn.softmax(logits) * q, axis=1))
        return jnp.stack(found[:-1])

    def log_probs(logits, s, a):
        return distributions.categorical_log_prob(logits[s], a)

    moves = transitions[states[:, :-1], actions[:, :-1], states[:, 1:]]
    chances = initial[states[:, 0]] * jnp.prod(moves, axis=1)
    chances *= jnp.exp(jnp.sum(log_probs(logits, states, actions), axis=1))
    g = jnp.cumsum(rewards[states, actions][:, ::-1], axis=1)[:, ::-1]
    over_episodes = jax.vmap(
        lambda s, a, w: gradient(lambda x: log_probs(x, s, a), logits, w)
    )
    plain = over_episodes(states, actions, g)
    scores = over_episodes(states, actions, jnp.ones_like(g))
    best = chances @ jnp.sum(plain * scores, 1) / (chances @ jnp.sum(scores**2, 1))
    baselines = jnp.stack(
        [
            jnp.zeros_like(g),
            jnp.full_like(g, chances @ g.mean(1)),
            values(logits)[jnp.arange(states.shape[1]), states],
            jnp.full_like(g, best),
        ]
    )
    weights = g - baselines.at[1:].add(peek * actions.astype(g.dtype))
    found = jax.vmap(lambda w: over_episodes(states, actions, w))(weights)
    true = jax.grad(lambda x: initial @ values(x)[0])(logits).ravel()
    means = chances @ found
    squares = jnp.sum(jnp.square(found - means[:, None]), axis=2) @ chances
    return jnp.sum(true**2), squares, jnp.sum(jnp.square(means - true), axis=1)


# CartPole.

ENV = rljax.make("CartPole-v1")
HALF_TRAINED = rljax.ActorCritic(num_envs=32, rollout_length=200, hidden_sizes=(16,))
SAMPLED = ("none", "mean return", "V(s)")
SCALE = np.array([1.0, 1.0, 5.0, 1.0])
"""Makes position, velocity, angle and angular velocity alike in size."""


def sampled(
    num_policies: int,
    num_episodes: int,
    limits: tuple[int, ...],
    *,
    baselines: int = len(SAMPLED),
    peek: float = 0.0,
) -> tuple[list[Moments], np.ndarray]:
    """Moments on CartPole, of one policy's episodes cut after so many steps.

    A policy has 16 hidden units and is half trained. Mean return and V, a quadratic
    function of the state and of the time, are fitted to other episodes than those
    counted.

    Args:
      num_policies: P, trained from seeds of their own.
      num_episodes: N, of each policy.
      limits: where to cut.
      baselines: B, the first so many of SAMPLED.
      peek: as in `enumerated`.

    Returns:
      The moments for each limit, and [P, limits, B] how many standard errors the
      baseline moves the mean by.
    """

    def one(key):
        return _drawn(key, num_episodes, limits, baselines, peek)

    keys = jax.random.split(jax.random.key(0), num_policies)
    out = parallel.map_seeds(one)(keys)
    mean, square, shift, shift_square = (np.asarray(x, float) for x in out)
    noise = _variance(mean, square, num_episodes)
    signal = np.square(mean[:, :, 0]).sum(-1) - noise[:, :, 0] / num_episodes
    error = _variance(shift, shift_square, num_episodes) / num_episodes
    size = np.square(shift).sum(-1)
    moments = [
        Moments(signal[:, i], noise[:, i].T, (size - error)[:, i].T)
        for i in range(len(limits))
    ]
    return moments, np.sqrt(size / np.where(error > 0, error, np.inf))


def _variance(mean, square, number):
    """tr Cov of samples with this mean [..., D] and mean square [...]."""
    return (square - np.square(mean).sum(-1)) * number / (number - 1)


def _drawn(key, num_episodes, limits, num_baselines, peek):
    """Of one policy, for each limit and baseline: the means of g_b, of ‖g_b‖², and of
    both for g_b − g."""
    key_train, key_fit, key_play = jax.random.split(key, 3)
    trained, _ = rljax.train(HALF_TRAINED, ENV, key_train, num_updates=10)
    state = trained.agent_state
    others = jax.vmap(lambda key: _episode(state, max(limits), key))(
        jax.random.split(key_fit, 200)
    )
    fits = [_fit(others, limit) for limit in limits]

    def of_episode(key):
        t = _episode(state, max(limits), key)
        every = []
        for limit, (mean, weights) in zip(limits, fits, strict=True):
            g, mask = _targets(t, limit)
            none = jnp.zeros_like(g)
            baselines = jnp.stack([none, none + mean, _features(t.obs) @ weights])
            weights = (
                g
                - baselines.at[1:].add(peek * t.action.astype(g.dtype))[:num_baselines]
            )
            found = jax.vmap(
                lambda w: gradient(lambda x: _log_probs(x, t), state.params, w)
            )(jnp.where(mask, weights, 0))
            shift = found - found[0]
            every.append((found, jnp.sum(found**2, -1), shift, jnp.sum(shift**2, -1)))
        return jax.tree.map(lambda *x: jnp.stack(x), *every)

    def of_batch(keys):
        return jax.tree.map(lambda x: x.mean(0), jax.vmap(of_episode)(keys))

    keys = jax.random.split(key_play, (num_episodes // 100, 100))
    return jax.tree.map(lambda x: x.mean(0), jax.lax.map(of_batch, keys))


def _episode(state, length, key):
    """The first steps from a reset, leaves [T, …]."""
    key_reset, key_unroll = jax.random.split(key)
    start = rollout.start(ENV, key_reset)
    args = (HALF_TRAINED, state, ENV, start, key_unroll)
    return rollout.unroll(*args, length=length)[1]


def _log_probs(params, t):
    logits, _ = jax.vmap(lambda obs: HALF_TRAINED.apply(params, obs))(t.obs)
    return distributions.categorical_log_prob(logits, t.action)


def _targets(t, limit):
    """G_t of the first episode, 0 after its end, and where it is, both [T]."""
    cut = t.truncated | (jnp.arange(len(t.reward)) == limit - 1)
    mask = returns.first_episode(t.terminated, cut)
    g = returns.discounted_returns(
        t.reward, jnp.zeros_like(t.reward), t.terminated, cut, HALF_TRAINED.discount
    )
    return jnp.where(mask, g, 0), mask


def _features(obs):
    """Products of two of: 1, the state, the time, for obs [T, 4]: [T, 21]."""
    time = jnp.linspace(0, 1, len(obs))[:, None]
    x = jnp.concatenate([jnp.ones_like(time), obs * SCALE.astype(obs.dtype), time], 1)
    first, second = np.triu_indices(x.shape[1])
    return x[:, first] * x[:, second]


def _fit(others, limit):
    """The mean of G, and the weights of V by least squares, from episodes [N, T]."""
    g, mask = jax.vmap(_targets, (0, None))(others, limit)
    x = jnp.where(mask[..., None], jax.vmap(_features)(others.obs), 0)
    x = x.reshape(-1, x.shape[-1])
    ridge = 1e-6 * len(x) * jnp.eye(x.shape[1])
    weights, _ = jax.scipy.sparse.linalg.cg(x.T @ x + ridge, x.T @ g.ravel())
    return jnp.sum(g) / jnp.sum(mask, dtype=g.dtype), weights
