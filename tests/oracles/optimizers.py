"""Gradient clipping and optimiser steps over dicts of arrays, in float64."""

import numpy as np


def clip_by_global_norm(grads, max_norm):
    """g · min(1, c/‖g‖) with ‖g‖ = sqrt(Σ over all entries of all arrays g²), and ‖g‖.

    One factor for all arrays, so the direction stays. `max_norm` None: no limit.
    """
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    if max_norm is None or norm <= max_norm:
        return grads, norm
    return {k: g * max_norm / norm for k, g in grads.items()}, norm


def sgd(p, grads, learning_rate):
    """θ ← θ − α g."""
    return {k: p[k] - learning_rate * grads[k] for k in p}


def adam(p, grads, moments, learning_rate, epsilon):
    """One step of Kingma and Ba (2015), algorithm 1; `moments` is (m, v, t).

    t ← t + 1, m ← β1 m + (1 − β1) g, v ← β2 v + (1 − β2) g²,
    θ ← θ − α m̂ / (sqrt(v̂) + ε) with m̂ = m / (1 − β1^t), v̂ = v / (1 − β2^t);
    β1 = 0.9 and β2 = 0.999.
    """
    m, v, t = moments
    t += 1
    m = {k: 0.9 * m[k] + 0.1 * grads[k] for k in p}
    v = {k: 0.999 * v[k] + 0.001 * grads[k] ** 2 for k in p}
    step = {
        k: (m[k] / (1 - 0.9**t)) / (np.sqrt(v[k] / (1 - 0.999**t)) + epsilon) for k in p
    }
    return {k: p[k] - learning_rate * step[k] for k in p}, (m, v, t)
