"""Gradients of the agents' whole losses by every parameter, over one batch."""

import numpy as np

from . import distributions, losses  # this folder alone
from .networks import backward, entropy_gradient, forward, policy_gradient


def reinforce_gradient(p, obs, actions, weights, num_episodes):
    """Of −1/N Σ_b w_b log π(a_b|s_b); steps beyond an episode's end have w = 0."""
    z, h, logits, _ = forward(p, obs)
    return backward(
        p, obs, z, h, policy_gradient(logits, actions, weights) / num_episodes
    )


def actor_critic_gradient(
    p, obs, actions, advantages, targets, value_coef, entropy_coef
):
    """Of mean[−log π A] + c_v ½ mean[(y − V)²] − c_H mean[H].

    ∂L/∂logits = [−A (one_hot(a) − π) − c_H ∂H] / B and ∂L/∂V = c_v (V − y) / B enter
    the two heads, biases included, and from both the trunk, with their own signs.
    """
    z, h, logits, values = forward(p, obs)
    batch = len(obs)
    d_logits = policy_gradient(logits, actions, advantages) / batch
    d_logits = d_logits - entropy_coef * entropy_gradient(logits) / batch
    d_values = value_coef * (values - targets) / batch
    return backward(p, obs, z, h, d_logits, d_values)


def ppo_gradient(
    p, batch, clip_epsilon, clip_value, normalize, value_coef, entropy_coef, dual_clip
):
    """Of L_clip + c_v L_V − c_H mean[H] over one minibatch, a dict of arrays [B]."""
    z, h, logits, values = forward(p, batch["obs"])
    actions, advantages = batch["actions"], batch["advantages"]
    if normalize:
        advantages = (advantages - advantages.mean()) / advantages.std()
    log_probs = distributions.log_softmax(logits)[np.arange(len(actions)), actions]
    _, (d_log_probs, *_) = losses.ppo_clip(
        log_probs, batch["behaviour_log_probs"], advantages, clip_epsilon, dual_clip
    )
    d_logits = policy_gradient(logits, actions, -d_log_probs)
    d_logits = d_logits - entropy_coef * entropy_gradient(logits) / len(actions)
    if clip_value:
        _, (d_values, *_) = losses.clipped_value(
            values, batch["values"], batch["targets"], clip_epsilon
        )
    else:
        _, (d_values, _) = losses.value(values, batch["targets"])
    return backward(p, batch["obs"], z, h, d_logits, value_coef * d_values)


def ppo_normal_gradient(p, batch, clip_epsilon, value_coef, entropy_coef, box=None):
    """As `ppo_gradient` for a normal policy with log σ = p["log_scale"], [D].

    `batch["draws"]` [B, D] are what was drawn. With `box` = (low, high) they were
    squashed to it. That adds to log π what no parameter changes, so ∂ log π is that of
    the normal one, and only the entropy's gradient is another.
    """
    z, h, means, values = forward(p, batch["obs"])
    draws, advantages = batch["draws"], batch["advantages"]
    advantages = (advantages - advantages.mean()) / advantages.std()
    scales = np.broadcast_to(p["log_scale"], means.shape)
    terms, d_mean, d_scale = distributions.normal_log_prob(means, scales, draws)
    if box is None:
        d_entropy = 0 * means, 1 + 0 * means
    else:
        terms = terms - distributions.squash_log_slope(draws, *box)
        pairs = zip(means.ravel(), scales.ravel(), strict=True)
        each = [distributions.squashed_entropy(*pair, *box)[1:] for pair in pairs]
        d_entropy = np.reshape(np.transpose(each), (2, *means.shape))
    _, (d_log_probs, *_) = losses.ppo_clip(
        terms.sum(1), batch["behaviour_log_probs"], advantages, clip_epsilon, None
    )
    size, d_log_probs = len(draws), d_log_probs[:, None]
    d_means = d_log_probs * d_mean - entropy_coef * d_entropy[0] / size
    d_scales = d_log_probs * d_scale - entropy_coef * d_entropy[1] / size
    _, (d_values, _) = losses.value(values, batch["targets"])
    grads = backward(p, batch["obs"], z, h, d_means, value_coef * d_values)
    return grads | {"log_scale": d_scales.sum(0)}


def moments(batches):
    """Mean and variance over the first two axes of all batches [T, N, …] together."""
    rows = [x.reshape(-1, *x.shape[2:]) for x in batches]
    return np.concatenate(rows).mean(0), np.concatenate(rows).var(0)


def normalised(x, mean, variance):
    """(x − mean) / sqrt(variance + 1e-8), no further from 0 than 10."""
    return np.clip((x - mean) / np.sqrt(variance + 1e-8), -10, 10)


def past_returns(rewards, done, discount, last):
    """G_t = r_t + γ G_{t−1} [T, N], and [N] what it goes on from; 0 after an end."""
    returns, last = np.zeros_like(rewards), np.array(last)
    for t in range(len(rewards)):
        for n in range(len(last)):
            returns[t, n] = rewards[t, n] + discount * last[n]
            last[n] = 0 if done[t, n] else returns[t, n]
    return returns, last
