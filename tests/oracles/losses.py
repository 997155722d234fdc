"""Losses and their gradients by hand, in float64.

With B elements, a mean passes 1/B to each. Derivatives are with respect to the first
argument of each loss.
"""

import numpy as np


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_prob_gradient(logits, action):
    """∂ log π(a) / ∂ logits = one_hot(a) − π for one [A]."""
    return np.eye(len(logits))[action] - np.exp(log_softmax(logits))


def entropy_gradient(logits):
    """∂H/∂z_j = −π_j (log π_j + H).

    From H = −Σ_i π_i log π_i and ∂π_i/∂z_j = π_i (1_ij − π_j).
    """
    log_pi = log_softmax(logits)
    pi = np.exp(log_pi)
    entropy = -(pi * log_pi).sum()
    return -pi * (log_pi + entropy)


def kl_gradient(logits, reference_logits):
    """∂KL(π‖ρ)/∂z_j = π_j (log π_j − log ρ_j − KL)."""
    log_pi, log_rho = log_softmax(logits), log_softmax(reference_logits)
    pi = np.exp(log_pi)
    kl = (pi * (log_pi - log_rho)).sum()
    return pi * (log_pi - log_rho - kl)


def ppo_clip(log_probs, behaviour_log_probs, advantages, epsilon):
    """Value and gradient; ∂r/∂log π = r, and 0 beyond the bound that A points to."""
    ratio = np.exp(log_probs - behaviour_log_probs)
    clipped = np.clip(ratio, 1 - epsilon, 1 + epsilon)
    value = -np.minimum(ratio * advantages, clipped * advantages).mean()
    gradient = np.zeros_like(ratio)
    for i, (r, a) in enumerate(zip(ratio, advantages, strict=True)):
        if (a >= 0 and r <= 1 + epsilon) or (a < 0 and r >= 1 - epsilon):
            gradient[i] = -r * a / len(ratio)
    return value, gradient


def clipped_value(values, old_values, targets, epsilon):
    """Value and gradient; V − y where the plain error counts.

    Where the clipped error is larger, V is more than ε away from V_old: its derivative
    is 0.
    """
    clipped = old_values + np.clip(values - old_values, -epsilon, epsilon)
    plain, bounded = (values - targets) ** 2, (clipped - targets) ** 2
    value = 0.5 * np.maximum(plain, bounded).mean()
    gradient = np.where(plain >= bounded, values - targets, 0.0) / len(values)
    return value, gradient
