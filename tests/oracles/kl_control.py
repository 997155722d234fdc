"""Rewards less the price of a divergence, by loops, with gradients."""

import numpy as np


def penalized_rewards(rewards, kl, terminated, truncated, kl_coef, weights, credit):
    """Σ_t w_t r'_t and its gradients by r, k and β.

    Per token r'_t = r_t − β k_t: ∂/∂k_t = −β w_t, ∂/∂β = −Σ w_t k_t. Per sequence each
    k_i is paid at the last step e(i) of its episode: ∂/∂k_i = −β w_e(i).
    """
    length = len(rewards)
    paid_at = list(range(length))
    if credit == "sequence":
        for i in range(length):
            e = i
            while e < length - 1 and not (terminated[e] or truncated[e]):
                e += 1
            paid_at[i] = e
    out = np.array(rewards, float)
    d_kl, d_coef = np.zeros(length), 0.0
    for i in range(length):
        out[paid_at[i]] -= kl_coef * kl[i]
        d_kl[i] = -kl_coef * weights[paid_at[i]]
        d_coef -= weights[paid_at[i]] * kl[i]
    return out, (np.array(weights, float), d_kl, d_coef)
