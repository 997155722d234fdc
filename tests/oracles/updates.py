"""Whole updates of the agents by hand: forward, backward, clipping, optimiser.

The network is obs → z = obs·W1 + b1 → h = max(z, 0) → logits = h·Wa + ba and
V = h·Wc + bc; REINFORCE has no critic. Given G = ∂L/∂logits [B, A] and v = ∂L/∂V [B],
the chain rule gives

    ∂L/∂Wa = hᵀ·G   [H, A]      ∂L/∂ba = Σ_b G_b
    ∂L/∂Wc = hᵀ·v   [H, 1]      ∂L/∂bc = Σ_b v_b
    ∂L/∂h  = G·Waᵀ + v·Wcᵀ      ∂L/∂z  = ∂L/∂h · 1[z > 0]
    ∂L/∂W1 = obsᵀ·∂L/∂z         ∂L/∂b1 = Σ_b ∂L/∂z_b

so the trunk receives the actor's and the critic's gradient, both downhill.
"""

import numpy as np

from . import losses  # this folder alone


def forward(p, obs):
    z = obs @ p["W1"] + p["b1"]
    h = np.maximum(z, 0)
    logits = h @ p["Wa"] + p["ba"]
    values = (h @ p["Wc"] + p["bc"])[:, 0] if "Wc" in p else None
    return z, h, logits, values


def backward(p, obs, z, h, d_logits, d_values=None):
    grads = {"Wa": h.T @ d_logits, "ba": d_logits.sum(0)}
    d_h = d_logits @ p["Wa"].T
    if d_values is not None:
        grads |= {"Wc": h.T @ d_values[:, None], "bc": d_values.sum(0, keepdims=True)}
        d_h = d_h + d_values[:, None] @ p["Wc"].T
    d_z = d_h * (z > 0)
    return grads | {"W1": obs.T @ d_z, "b1": d_z.sum(0)}


def policy_gradient(logits, actions, weights):
    """∂/∂logits of −Σ_b w_b log π(a_b): −w (one_hot(a) − π)."""
    return np.stack(
        [
            -w * losses.log_prob_gradient(row, a)
            for row, a, w in zip(logits, actions, weights, strict=True)
        ]
    )


def entropy_gradient(logits):
    return np.stack([losses.entropy_gradient(row) for row in logits])


def clip_by_global_norm(grads, max_norm):
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    if max_norm is None or norm <= max_norm:
        return grads, norm
    return {k: g * max_norm / norm for k, g in grads.items()}, norm


def sgd(p, grads, learning_rate):
    return {k: p[k] - learning_rate * grads[k] for k in p}


def adam(p, grads, moments, learning_rate, epsilon):
    """One step of Kingma and Ba (2015); `moments` is (m, v, t)."""
    m, v, t = moments
    t += 1
    m = {k: 0.9 * m[k] + 0.1 * grads[k] for k in p}
    v = {k: 0.999 * v[k] + 0.001 * grads[k] ** 2 for k in p}
    step = {
        k: (m[k] / (1 - 0.9**t)) / (np.sqrt(v[k] / (1 - 0.999**t)) + epsilon) for k in p
    }
    return {k: p[k] - learning_rate * step[k] for k in p}, (m, v, t)


def reinforce_gradient(p, obs, actions, weights, num_episodes):
    """Of −1/N Σ_b w_b log π(a_b|s_b); steps beyond an episode's end have w = 0."""
    z, h, logits, _ = forward(p, obs)
    return backward(
        p, obs, z, h, policy_gradient(logits, actions, weights) / num_episodes
    )


def actor_critic_gradient(
    p, obs, actions, advantages, targets, value_coef, entropy_coef
):
    """Of mean[−log π A] + c_v ½ mean[(y − V)²] − c_H mean[H]."""
    z, h, logits, values = forward(p, obs)
    batch = len(obs)
    d_logits = policy_gradient(logits, actions, advantages) / batch
    d_logits = d_logits - entropy_coef * entropy_gradient(logits) / batch
    d_values = value_coef * (values - targets) / batch
    return backward(p, obs, z, h, d_logits, d_values)


def ppo_gradient(
    p, batch, clip_epsilon, clip_value, normalize, value_coef, entropy_coef
):
    """Of L_clip + c_v L_V − c_H mean[H] over one minibatch, a dict of arrays [B]."""
    z, h, logits, values = forward(p, batch["obs"])
    actions, advantages = batch["actions"], batch["advantages"]
    if normalize:
        advantages = (advantages - advantages.mean()) / advantages.std()
    log_probs = losses.log_softmax(logits)[np.arange(len(actions)), actions]
    _, d_log_probs = losses.ppo_clip(
        log_probs, batch["behaviour_log_probs"], advantages, clip_epsilon
    )
    d_logits = policy_gradient(logits, actions, -d_log_probs)
    d_logits = d_logits - entropy_coef * entropy_gradient(logits) / len(actions)
    if clip_value:
        _, d_values = losses.clipped_value(
            values, batch["values"], batch["targets"], clip_epsilon
        )
    else:
        d_values = (values - batch["targets"]) / len(actions)
    return backward(p, batch["obs"], z, h, d_logits, value_coef * d_values)
