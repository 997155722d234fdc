"""Losses and their gradients by every argument, in float64.

Each function returns (value, gradients), the gradients in the order of the arguments.
With B elements, a mean passes 1/B to each. Arrays are [B], or [T] where the loss is one
of steps.
"""

import numpy as np


def policy_gradient(log_probs, weights):
    """L = −1/B Σ_b log π_b w_b; ∂L/∂log π_b = −w_b/B. Weights are constants: 0."""
    value = -np.mean(log_probs * weights)
    return value, (-weights / weights.size, np.zeros_like(weights))


def value(values, targets):
    """L = 1/(2B) Σ_b (y_b − V_b)²; ∂L/∂V_b = (V_b − y_b)/B, ∂L/∂y_b its negative."""
    error = values - targets
    return 0.5 * np.mean(error**2), (error / error.size, -error / error.size)


def clipped_value(values, old_values, targets, epsilon):
    """L = 1/(2B) Σ_b max[(V − y)², (V_c − y)²], V_c = V_old + clip(V − V_old, −ε, ε).

    Where the plain error is at least as large, an element is that of the plain loss.
    Elsewhere V lies beyond a bound, V_c = V_old ± ε, and with e = V_c − y

        ∂/∂V = 0,   ∂/∂V_old = e/B,   ∂/∂y = −e/B,   ∂/∂ε = ±e/B summed over b.
    """
    count = values.size
    gradients = [np.zeros_like(values) for _ in range(3)]
    total, d_epsilon = 0.0, 0.0
    for b in np.ndindex(values.shape):
        side = np.sign(values[b] - old_values[b])
        outside = abs(values[b] - old_values[b]) > epsilon
        clipped = old_values[b] + side * epsilon if outside else values[b]
        plain, bounded = values[b] - targets[b], clipped - targets[b]
        if plain**2 >= bounded**2:
            total += 0.5 * plain**2
            gradients[0][b], gradients[2][b] = plain / count, -plain / count
        else:
            total += 0.5 * bounded**2
            gradients[1][b], gradients[2][b] = bounded / count, -bounded / count
            d_epsilon += side * bounded / count
    return total / count, (*gradients, d_epsilon)


def ppo_clip(log_probs, behaviour_log_probs, advantages, epsilon, dual_clip=None):
    """L = −1/B Σ_b min(r A, clip(r, 1−ε, 1+ε) A), r = exp(log π − log π_old).

    For A ≥ 0 the minimum is r A up to r = 1+ε and (1+ε) A beyond; for A < 0 it is r A
    from r = 1−ε up and (1−ε) A below. The bounds themselves belong to r A. Inside,
    ∂r/∂log π = r and ∂r/∂log π_old = −r give

        ∂L/∂log π = −r A/B,   ∂L/∂log π_old = r A/B,   ∂L/∂A = −r/B,   ∂L/∂ε = 0;

    outside, in the zero region,

        ∂L/∂log π = ∂L/∂log π_old = 0,   ∂L/∂A = −(1 ± ε)/B,   ∂L/∂ε = ∓A/B.

    With a dual clip c, an element with A < 0 is the maximum of that and c A. It is c A
    where r > c, which leaves ∂L/∂A = −c/B and ∂L/∂c = −A/B.
    """
    count = advantages.size
    gradients = [np.zeros_like(advantages) for _ in range(3)]
    total, d_epsilon, d_dual = 0.0, 0.0, 0.0
    for b in np.ndindex(advantages.shape):
        with np.errstate(over="ignore"):
            r = np.exp(log_probs[b] - behaviour_log_probs[b])
        a = advantages[b]
        side = 1.0 if a >= 0 else -1.0
        bound = 1 + side * epsilon
        if dual_clip is not None and a < 0 and r > dual_clip:
            total -= dual_clip * a
            gradients[2][b] = -dual_clip / count
            d_dual -= a / count
        elif (r <= bound) if a >= 0 else (r >= bound):
            total -= r * a
            gradients[0][b], gradients[1][b] = -r * a / count, r * a / count
            gradients[2][b] = -r / count
        else:
            total -= bound * a
            gradients[2][b] = -bound / count
            d_epsilon -= side * a / count
    d_dual = () if dual_clip is None else (d_dual,)
    return total / count, (*gradients, d_epsilon, *d_dual)


def td_errors(q_values, actions, rewards, next_q_values, terminated, discount, weights):
    """δ_t = r_t + γ (1 − terminated_t) max_a Q'_t(a) − Q_t(a_t), and Σ_t w_t ∂δ_t.

    By Q_t(a_t): −w_t; by r_t: w_t; by Q'_t at its maximum: γ w_t unless terminated; by
    γ: Σ_t w_t max_a Q'_t(a) over the steps that are not. Q and Q' are [T, A].
    """
    deltas = np.zeros_like(rewards)
    d_q, d_next = np.zeros_like(q_values), np.zeros_like(next_q_values)
    d_discount = 0.0
    for t, (a, w) in enumerate(zip(actions, weights, strict=True)):
        best = int(np.argmax(next_q_values[t]))
        deltas[t] = rewards[t] - q_values[t, a]
        d_q[t, a] = -w
        if not terminated[t]:
            deltas[t] += discount * next_q_values[t, best]
            d_next[t, best] = discount * w
            d_discount += w * next_q_values[t, best]
    return deltas, (d_q, weights.copy(), d_next, d_discount)


def bradley_terry(chosen, rejected):
    """L = 1/B Σ_b log(1 + exp(−d_b)), d = r⁺ − r⁻.

    ∂L/∂d_b = −σ(−d_b)/B, so ∂L/∂r⁺ = −σ(−d)/B and ∂L/∂r⁻ = σ(−d)/B. Both are
    written so that no exponential overflows.
    """
    difference = chosen - rejected
    small = np.exp(-np.abs(difference))
    value = np.mean(np.maximum(-difference, 0) + np.log1p(small))
    sigma = np.where(difference >= 0, small, 1) / (1 + small)
    return value, (-sigma / sigma.size, sigma / sigma.size)


def dpo(chosen, rejected, reference_chosen, reference_rejected, beta):
    """Bradley–Terry of r = β(log π − log π_ref).

    With g⁺, g⁻ = ∂L/∂r⁺, ∂L/∂r⁻:  ∂L/∂log π⁺ = β g⁺,  ∂L/∂log π_ref⁺ = −β g⁺,
    the same for ⁻, and ∂L/∂β = Σ_b g⁺_b (log π⁺ − log π_ref⁺)_b + the same for ⁻.
    """
    above, below = chosen - reference_chosen, rejected - reference_rejected
    value, (plus, minus) = bradley_terry(beta * above, beta * below)
    d_beta = (plus * above + minus * below).sum()
    return value, (beta * plus, beta * minus, -beta * plus, -beta * minus, d_beta)
