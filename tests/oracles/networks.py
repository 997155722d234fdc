"""The two-layer ReLU policy, alone or sharing its trunk with a critic.

Parameters are a dict: W1 [D, H], b1 [H], Wa [H, A], ba [A] and, with a critic, Wc
[H, 1], bc [1]. For a batch of observations x [B, D]

    z = x·W1 + b1  [B, H]    h = max(z, 0)  [B, H]
    logits = h·Wa + ba  [B, A]    V = h·Wc + bc  [B]

Given G = ∂L/∂logits [B, A] and v = ∂L/∂V [B], the chain rule gives, layer by layer,

    ∂L/∂Wa = hᵀ·G           [H, A]      ∂L/∂ba = Σ_b G_b        [A]
    ∂L/∂Wc = hᵀ·v           [H, 1]      ∂L/∂bc = Σ_b v_b        [1]
    ∂L/∂h  = G·Waᵀ + v·Wcᵀ  [B, H]      both heads, downhill, through one trunk
    ∂L/∂z  = ∂L/∂h · 1[z > 0]  [B, H]   the ReLU passes nothing at z ≤ 0
    ∂L/∂W1 = xᵀ·∂L/∂z       [D, H]      ∂L/∂b1 = Σ_b ∂L/∂z_b    [H]
"""

import numpy as np

from . import distributions  # this folder alone


def forward(p, obs):
    """z, h, logits, and V or None."""
    z = obs @ p["W1"] + p["b1"]
    h = np.maximum(z, 0)
    logits = h @ p["Wa"] + p["ba"]
    values = (h @ p["Wc"] + p["bc"])[:, 0] if "Wc" in p else None
    return z, h, logits, values


def backward(p, obs, z, h, d_logits, d_values=None):
    """∂L/∂p from G and v."""
    grads = {"Wa": h.T @ d_logits, "ba": d_logits.sum(0)}
    d_h = d_logits @ p["Wa"].T
    if d_values is not None:
        grads |= {"Wc": h.T @ d_values[:, None], "bc": d_values.sum(0, keepdims=True)}
        d_h = d_h + d_values[:, None] @ p["Wc"].T
    d_z = d_h * (z > 0)
    return grads | {"W1": obs.T @ d_z, "b1": d_z.sum(0)}


def policy_gradient(logits, actions, weights):
    """∂/∂logits of −Σ_b w_b log π(a_b): −w (one_hot(a) − π), [B, A]."""
    return np.stack(
        [
            -w * distributions.log_prob_gradient(row, a)
            for row, a, w in zip(logits, actions, weights, strict=True)
        ]
    )


def entropy_gradient(logits):
    """∂/∂logits of Σ_b H(π_b), [B, A]."""
    return np.stack([distributions.entropy_gradient(row) for row in logits])


def windows(x, size, stride):
    """Where the windows of a picture [H, W, C] begin, (i, j, row, column)."""
    rows = (x.shape[0] - size) // stride + 1
    columns = (x.shape[1] - size) // stride + 1
    return [(i, j, stride * i, stride * j) for i in range(rows) for j in range(columns)]


def convolution(x, kernel, bias, stride):
    """z[i, j, o] = b_o + Σ_{a,b,c} x[s·i + a, s·j + b, c] · k[a, b, c, o]."""
    size = len(kernel)
    places = windows(x, size, stride)
    z = np.zeros((places[-1][0] + 1, places[-1][1] + 1, kernel.shape[3]))
    for i, j, row, column in places:
        for o in range(kernel.shape[3]):
            window = x[row : row + size, column : column + size]
            z[i, j, o] = bias[o] + (window * kernel[..., o]).sum()
    return z


def convolution_gradient(x, kernel, stride, d_z):
    """∂L/∂x, ∂L/∂k and ∂L/∂b from ∂L/∂z, window by window."""
    size = len(kernel)
    d_x, d_kernel = np.zeros_like(x), np.zeros_like(kernel)
    for i, j, row, column in windows(x, size, stride):
        for o in range(kernel.shape[3]):
            here = slice(row, row + size), slice(column, column + size)
            d_x[here] += d_z[i, j, o] * kernel[..., o]
            d_kernel[..., o] += d_z[i, j, o] * x[here]
    return d_x, d_kernel, d_z.sum((0, 1))
