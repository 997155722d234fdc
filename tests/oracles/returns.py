"""Returns and advantages as double loops, straight from their sums."""

import numpy as np


def discounted_returns(rewards, terminated, truncated, next_values, discount):
    """G_t = Σ_{k≤K} γ^k r_{t+k} + γ^{K+1} V(s_{t+K+1}) unless terminated at t+K.

    K is the number of steps until the first done one or the end of the trajectory.
    """
    length = len(rewards)
    returns = np.zeros(length)
    for t in range(length):
        for k in range(length - t):
            returns[t] += discount**k * rewards[t + k]
            last = t + k == length - 1 or truncated[t + k]
            if terminated[t + k]:
                break
            if last:
                returns[t] += discount ** (k + 1) * next_values[t + k]
                break
    return returns


def n_step_return(rewards, terminated, truncated, next_values, discount, t, n):
    """G_t^(n): at most n rewards, then the value of the state reached."""
    stop = min(t + n, len(rewards))
    return discounted_returns(
        rewards[t:stop],
        terminated[t:stop],
        truncated[t:stop],
        next_values[t:stop],
        discount,
    )[0]


def lambda_returns(rewards, next_values, terminated, truncated, discount, lambda_):
    """The forward view: (1−λ) Σ_{n<N} λ^{n−1} G_t^(n) + λ^{N−1} G_t^(N).

    N is the number of steps until the first done one or the end of the trajectory.
    """
    length = len(rewards)
    returns = np.zeros(length)
    for t in range(length):
        done = np.asarray(terminated[t:]) | np.asarray(truncated[t:])
        horizon = int(np.argmax(done)) + 1 if done.any() else length - t
        for n in range(1, horizon + 1):
            weight = lambda_ ** (n - 1) * (1 - lambda_ if n < horizon else 1)
            returns[t] += weight * n_step_return(
                rewards, terminated, truncated, next_values, discount, t, n
            )
    return returns


def gae(rewards, values, next_values, terminated, truncated, discount, lambda_):
    """A_t = Σ_k (γλ)^k δ_{t+k} up to the first done step or the end."""
    length = len(rewards)
    deltas = [
        rewards[t] + (0.0 if terminated[t] else discount * next_values[t]) - values[t]
        for t in range(length)
    ]
    advantages = np.zeros(length)
    for t in range(length):
        for k in range(length - t):
            advantages[t] += (discount * lambda_) ** k * deltas[t + k]
            if terminated[t + k] or truncated[t + k]:
                break
    return advantages
