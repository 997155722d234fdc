"""The categorical distribution by hand, in float64.

With logits z [A], m = max z and S = Σ_b exp(z_b − m), log π_a = z_a − m − log S, so

    ∂ log π_a / ∂z_j = 1[a = j] − exp(z_j − m) / S = 1[a = j] − π_j      [A, A]

(m drops out: what it adds through −m it takes away through −log S). Everything
below follows from this by the chain rule, with ∂π_a/∂z_j = π_a (1[a = j] − π_j).
Functions of values take [..., A], those of gradients one row [A].
"""

import numpy as np


def log_softmax(logits):
    """log π, [..., A]."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_softmax_jacobian(logits):
    """∂ log π_a / ∂z_j = 1[a = j] − π_j, [A, A]."""
    return np.eye(len(logits)) - np.exp(log_softmax(logits))[None]


def log_prob_gradient(logits, action):
    """∂ log π(a) / ∂z = one_hot(a) − π: row a of the Jacobian, [A]."""
    return log_softmax_jacobian(logits)[action]


def entropy(logits):
    """H = −Σ_a π_a log π_a, with 0·log 0 = 0."""
    log_pi = log_softmax(logits)
    pi = np.exp(log_pi)
    return -(pi * np.where(pi > 0, log_pi, 0)).sum(axis=-1)


def entropy_gradient(logits):
    """∂H/∂z_j = −π_j (log π_j + H), [A].

    ∂H/∂z_j = −Σ_a [∂π_a/∂z_j log π_a + π_a ∂log π_a/∂z_j]. The second part is
    Σ_a π_a (1[a = j] − π_j) = π_j − π_j = 0; the first is −π_j log π_j + π_j Σ_a π_a
    log π_a = −π_j (log π_j + H).
    """
    log_pi = log_softmax(logits)
    pi = np.exp(log_pi)
    return -pi * (np.where(pi > 0, log_pi, 0) + entropy(logits))


def kl(logits, reference_logits):
    """KL(π‖ρ) = Σ_a π_a (log π_a − log ρ_a), terms with π_a = 0 being 0."""
    log_pi, log_rho = log_softmax(logits), log_softmax(reference_logits)
    pi = np.exp(log_pi)
    return (pi * np.where(pi > 0, log_pi - log_rho, 0)).sum(axis=-1)


def kl_gradient(logits, reference_logits):
    """∂KL(π‖ρ)/∂z_j = π_j (log π_j − log ρ_j − KL), z the logits of π, [A].

    With d_a = log π_a − log ρ_a: Σ_a ∂π_a/∂z_j d_a = π_j d_j − π_j KL, and
    Σ_a π_a ∂d_a/∂z_j = Σ_a π_a (1[a = j] − π_j) = 0.
    """
    log_pi, log_rho = log_softmax(logits), log_softmax(reference_logits)
    return np.exp(log_pi) * (log_pi - log_rho - kl(logits, reference_logits))


def kl_reference_gradient(logits, reference_logits):
    """∂KL(π‖ρ)/∂w_j = ρ_j − π_j, w the logits of ρ, [A].

    −Σ_a π_a ∂log ρ_a/∂w_j = −Σ_a π_a (1[a = j] − ρ_j). With the arguments exchanged it
    is the gradient of the reverse divergence: ∂KL(ρ‖π)/∂z_j = π_j − ρ_j.
    """
    return np.exp(log_softmax(reference_logits)) - np.exp(log_softmax(logits))


def k1(log_prob, reference_log_prob):
    """Value and gradient by log π(a): k1 = d = log π(a) − log ρ(a); 1."""
    d = log_prob - reference_log_prob
    return d, np.ones_like(d)


def k2(log_prob, reference_log_prob):
    """Value and gradient by log π(a): k2 = d²/2; d."""
    d = log_prob - reference_log_prob
    return d**2 / 2, d


def k3(log_prob, reference_log_prob):
    """Value and gradient by log π(a): k3 = e^{−d} − 1 + d; 1 − e^{−d}."""
    d = log_prob - reference_log_prob
    return np.expm1(-d) + d, -np.expm1(-d)


# Normal distributions: with z = (u − μ)/σ and s = log σ,
#
#     log N = −½ z² − s − ½ log 2π,   ∂/∂μ = z/σ,   ∂/∂s = z² − 1
#
# and of KL(N‖N') = s' − s + (σ² + d²)/2σ'² − ½ with d = μ − μ',
#
#     ∂/∂μ = d/σ'² = −∂/∂μ',   ∂/∂s = σ²/σ'² − 1,   ∂/∂s' = 1 − (σ² + d²)/σ'².


def normal_log_prob(mean, log_scale, draw):
    """log N(u) [...] and its gradients in μ and log σ, each number by itself."""
    scale = np.exp(log_scale)
    z = (draw - mean) / scale
    value = -(z**2) / 2 - log_scale - np.log(2 * np.pi) / 2
    return value, z / scale, z**2 - 1


def normal_kl(mean, log_scale, other_mean, other_log_scale):
    """KL [...] and its gradients in μ, log σ, μ' and log σ'."""
    variance, other = np.exp(2 * log_scale), np.exp(2 * other_log_scale)
    d = mean - other_mean
    value = other_log_scale - log_scale + (variance + d**2) / (2 * other) - 0.5
    slope = d / other
    return value, slope, variance / other - 1, -slope, 1 - (variance + d**2) / other


def squash_log_slope(draw, low, high):
    """log(da/du) of a = low + (high − low)(tanh u + 1)/2: 1 − tanh² u = 1/cosh² u."""
    return np.log((high - low) / 2) - 2 * (np.logaddexp(draw, -draw) - np.log(2))


def squashed_entropy(mean, log_scale, low, high):
    """H [] of one number and its gradients in μ and log σ, by a fine trapezoid rule.

    H = ½ log 2πe + s + E[log(da/du)], and d log(da/du)/du = −2 tanh u, where
    du/dμ = 1 and du/ds = σ z.
    """
    z = np.linspace(-12, 12, 20_001)
    weights = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    u = mean + np.exp(log_scale) * z
    entropy = 0.5 * np.log(2 * np.pi * np.e) + log_scale
    value = entropy + weights @ squash_log_slope(u, low, high)
    bend = -2 * np.tanh(u)
    return value, weights @ bend, 1 + weights @ (bend * np.exp(log_scale) * z)
