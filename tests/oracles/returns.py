"""Returns and advantages as double loops, straight from their sums, with gradients.

Arrays are [T]. A gradient is that of Σ_t w_t G_t, for weights w [T], by each argument:
every sum below is linear in rewards and values, and a power γ^k gives k γ^{k−1}.
"""

import numpy as np


def discounted_returns(rewards, next_values, terminated, truncated, discount):
    """G_t = Σ_{k≤K} γ^k r_{t+k} + γ^{K+1} V(s_{t+K+1}) unless terminated at t+K.

    K is the number of steps until the first done one or the end of the trajectory.
    """
    ends = terminated, truncated
    return np.array(
        [
            discounted_return(rewards, *ends, next_values, discount, t)[0]
            for t in range(len(rewards))
        ]
    )


def discounted_return(rewards, terminated, truncated, next_values, discount, t):
    """G_t and its gradients by rewards [T], next_values [T] and γ.

    ∂G_t/∂r_{t+k} = γ^k for k ≤ K, ∂G_t/∂V(s_{t+K+1}) = γ^{K+1} unless terminated, and
    ∂G_t/∂γ = Σ_{k≤K} k γ^{k−1} r_{t+k} + (K+1) γ^K V(s_{t+K+1}).
    """
    length = len(rewards)
    d_rewards, d_values, d_discount = np.zeros(length), np.zeros(length), 0.0
    value = 0.0
    for k in range(length - t):
        value += discount**k * rewards[t + k]
        d_rewards[t + k] = discount**k
        if k:
            d_discount += k * discount ** (k - 1) * rewards[t + k]
        if terminated[t + k]:
            break
        if truncated[t + k] or t + k == length - 1:
            value += discount ** (k + 1) * next_values[t + k]
            d_values[t + k] = discount ** (k + 1)
            d_discount += (k + 1) * discount**k * next_values[t + k]
            break
    return value, (d_rewards, d_values, d_discount)


def discounted_returns_gradient(
    rewards, next_values, terminated, truncated, discount, weights
):
    """Of Σ_t w_t G_t by rewards, next_values and γ."""
    total = [np.zeros(len(rewards)), np.zeros(len(rewards)), 0.0]
    for t, w in enumerate(weights):
        arguments = (rewards, terminated, truncated, next_values, discount, t)
        for i, gradient in enumerate(discounted_return(*arguments)[1]):
            total[i] = total[i] + w * gradient
    return tuple(total)


def n_step_return(rewards, terminated, truncated, next_values, discount, t, n):
    """G_t^(n): at most n rewards, then the value of the state reached; as above."""
    stop = min(t + n, len(rewards))
    value, (d_rewards, d_values, d_discount) = discounted_return(
        rewards[:stop],
        terminated[:stop],
        truncated[:stop],
        next_values[:stop],
        discount,
        t,
    )
    padding = (0, len(rewards) - stop)
    return value, (np.pad(d_rewards, padding), np.pad(d_values, padding), d_discount)


def lambda_returns(rewards, next_values, terminated, truncated, discount, lambda_):
    """The forward view: (1−λ) Σ_{n<N} λ^{n−1} G_t^(n) + λ^{N−1} G_t^(N).

    N is the number of steps until the first done one or the end of the trajectory.
    """
    arguments = (rewards, next_values, terminated, truncated, discount, lambda_)
    return np.array([lambda_return(*arguments, t)[0] for t in range(len(rewards))])


def lambda_return(rewards, next_values, terminated, truncated, discount, lambda_, t):
    """G_t^λ and its gradients by rewards [T], next_values [T], γ and λ.

    The weights of the n-step returns do not depend on the first three; by λ they are
    −λ^{n−1} + (1−λ) (n−1) λ^{n−2} for n < N and (N−1) λ^{N−2} for n = N.
    """
    length = len(rewards)
    done = np.asarray(terminated[t:]) | np.asarray(truncated[t:])
    horizon = int(np.argmax(done)) + 1 if done.any() else length - t
    value, gradients = 0.0, [np.zeros(length), np.zeros(length), 0.0, 0.0]
    for n in range(1, horizon + 1):
        power = lambda_ ** (n - 1)
        d_power = (n - 1) * lambda_ ** (n - 2) if n > 1 else 0.0
        if n < horizon:
            weight = (1 - lambda_) * power
            d_weight = -power + (1 - lambda_) * d_power
        else:
            weight, d_weight = power, d_power
        n_step, parts = n_step_return(
            rewards, terminated, truncated, next_values, discount, t, n
        )
        value += weight * n_step
        for i, part in enumerate(parts):
            gradients[i] = gradients[i] + weight * part
        gradients[3] += d_weight * n_step
    return value, tuple(gradients)


def lambda_returns_gradient(
    rewards, next_values, terminated, truncated, discount, lambda_, weights
):
    """Of Σ_t w_t G_t^λ by rewards, next_values, γ and λ."""
    total = [np.zeros(len(rewards)), np.zeros(len(rewards)), 0.0, 0.0]
    ends = (terminated, truncated)
    for t, w in enumerate(weights):
        _, gradients = lambda_return(rewards, next_values, *ends, discount, lambda_, t)
        for i, gradient in enumerate(gradients):
            total[i] = total[i] + w * gradient
    return tuple(total)


def gae(rewards, values, next_values, terminated, truncated, discount, lambda_):
    """A_t = Σ_k (γλ)^k δ_{t+k} up to the first done step or the end.

    δ_t = r_t + γ V(s_{t+1}) − V(s_t), without V(s_{t+1}) where terminated.
    """
    length = len(rewards)
    deltas = _deltas(rewards, values, next_values, terminated, discount)
    advantages = np.zeros(length)
    for t in range(length):
        for k in range(length - t):
            advantages[t] += (discount * lambda_) ** k * deltas[t + k]
            if terminated[t + k] or truncated[t + k]:
                break
    return advantages


def gae_gradient(
    rewards, values, next_values, terminated, truncated, discount, lambda_, weights
):
    """Of Σ_t w_t A_t by rewards, values, next_values, γ and λ.

    With u_j = Σ_{t≤j} w_t (γλ)^{j−t} over the t from which no done step comes before j,
    Σ_t w_t A_t = Σ_j u_j δ_j. Hence r: u; V(s): −u; V(s'): γ u, 0 where terminated.
    By λ: Σ w_t k (γλ)^{k−1} γ δ_{t+k}; by γ the same with λ instead of γ, and
    Σ_j u_j V(s_{j+1}) where not terminated.
    """
    length = len(rewards)
    deltas = _deltas(rewards, values, next_values, terminated, discount)
    live = ~np.asarray(terminated)
    u, d_product = np.zeros(length), 0.0
    for t in range(length):
        for k in range(length - t):
            u[t + k] += weights[t] * (discount * lambda_) ** k
            if k:
                power = (discount * lambda_) ** (k - 1)
                d_product += weights[t] * k * power * deltas[t + k]
            if terminated[t + k] or truncated[t + k]:
                break
    d_discount = lambda_ * d_product + (u * live * next_values).sum()
    return u, -u, discount * u * live, d_discount, discount * d_product


def _deltas(rewards, values, next_values, terminated, discount):
    return np.array(
        [
            rewards[t]
            + (0.0 if terminated[t] else discount * next_values[t])
            - values[t]
            for t in range(len(rewards))
        ]
    )


def leave_one_out(returns, weights):
    """A_i = R_i − 1/(G−1) Σ_{j≠i} R_j; ∂Σ w A/∂R_j = w_j − 1/(G−1) Σ_{i≠j} w_i."""
    size = len(returns)
    advantages, gradient = np.zeros(size), np.zeros(size)
    for i in range(size):
        others = [j for j in range(size) if j != i]
        advantages[i] = returns[i] - sum(returns[j] for j in others) / (size - 1)
        gradient[i] = weights[i] - sum(weights[j] for j in others) / (size - 1)
    return advantages, (gradient,)


def group_normalized(returns, weights):
    """A_i = c_i/s, c = R − mean R, s = sqrt(mean c² + 1e-8).

    ∂c_i/∂R_j = 1[i = j] − 1/G and ∂s/∂R_j = c_j/(G s) give

        ∂Σ w A/∂R_j = (w_j − mean w)/s − c_j Σ_i w_i c_i / (G s³).
    """
    size = len(returns)
    c = returns - returns.mean()
    s = np.sqrt((c**2).mean() + 1e-8)
    gradient = (weights - weights.mean()) / s - c * (weights @ c) / (size * s**3)
    return c / s, (gradient,)
