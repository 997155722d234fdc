"""Prediction as the book writes it: an episode at a time, its steps in inner loops.

A trajectory is (obs, rewards, next_obs, terminated, truncated), all [T].
"""

import numpy as np

from .returns import discounted_returns, lambda_returns


def episodes(trajectory):
    """Each episode: (S_0 … S_T, R_1 … R_T, whether S_T is terminal)."""
    obs, rewards, next_obs, terminated, truncated = trajectory
    start = 0
    for t in range(len(obs)):
        if terminated[t] or truncated[t] or t == len(obs) - 1:
            states = [*obs[start : t + 1], next_obs[t]]
            yield states, rewards[start : t + 1], bool(terminated[t])
            start = t + 1


def td_lambda(values, trajectory, step_size, discount, lambda_, traces):
    """§12.2, with the traces of §12.2 and of Singh and Sutton (1996)."""
    values = np.array(values, float)
    for states, rewards, is_terminal in episodes(trajectory):
        trace = np.zeros(len(values))
        for t, reward in enumerate(rewards):
            trace *= discount * lambda_
            if traces == "replacing":
                trace[states[t]] = 0
            trace[states[t]] += 1
            ends = is_terminal and t == len(rewards) - 1
            next_value = 0.0 if ends else values[states[t + 1]]
            error = reward + discount * next_value - values[states[t]]
            values += step_size * error * trace
    return values


def online_lambda_returns(values, trajectory, step_size, discount, lambda_):
    """§12.4: at each horizon h, all steps until h anew, with returns cut off at h.

    G_{t:h}^λ = (1−λ) Σ_{n<h−t} λ^{n−1} G_{t:t+n} + λ^{h−t−1} G_{t:h}, where G_{t:t+n}
    ends with the value of S_{t+n} that was held at time t+n−1.
    """
    first = np.array(values, float)
    for states, rewards, is_terminal in episodes(trajectory):
        held = [first]  # held[h]: the values at time h
        for horizon in range(1, len(rewards) + 1):
            now = first.copy()
            for t in range(horizon):
                target = 0.0
                for n in range(1, horizon - t + 1):
                    end = t + n
                    g = sum(discount**k * rewards[t + k] for k in range(n))
                    if not (is_terminal and end == len(rewards)):
                        g += discount**n * held[end - 1][states[end]]
                    last = n == horizon - t
                    target += lambda_ ** (n - 1) * (1 if last else 1 - lambda_) * g
                now[states[t]] += step_size * (target - now[states[t]])
            held.append(now)
        first = held[-1]
    return first


def n_step_td(values, trajectory, step_size, discount, num_steps):
    """§7.1: at time t, S_τ with τ = t − n + 1 is updated, until τ = T − 1."""
    values = np.array(values, float)
    for states, rewards, is_terminal in episodes(trajectory):
        length = len(rewards)
        for t in range(length + num_steps - 1):
            tau = t - num_steps + 1
            if tau < 0:
                continue
            end = min(tau + num_steps, length)
            g = sum(discount ** (i - tau) * rewards[i] for i in range(tau, end))
            if end < length or not is_terminal:
                g += discount ** (end - tau) * values[states[end]]
            values[states[tau]] += step_size * (g - values[states[tau]])
    return values


def offline_lambda(values, trajectory, step_size, discount, lambda_):
    """§12.1: λ-returns by the values at the episode's start, used at its end."""
    values = np.array(values, float)
    for states, rewards, is_terminal in episodes(trajectory):
        length = len(rewards)
        flags = np.zeros((2, length), bool)
        flags[0, -1] = is_terminal
        next_values = values[states[1:]]
        targets = lambda_returns(rewards, next_values, *flags, discount, lambda_)
        for state, target in zip(states, targets, strict=False):
            values[state] += step_size * (target - values[state])
    return values


def monte_carlo(values, counts, trajectory, discount, first_visit):
    """§5.1: lists of returns, those before in `counts` equal ones."""
    values = np.array(values, float)
    lists = [[v] * n for v, n in zip(values, counts, strict=True)]
    for states, rewards, is_terminal in episodes(trajectory):
        length = len(rewards)
        flags = np.zeros((2, length), bool)
        flags[0, -1] = is_terminal
        next_values = values[states[1:]]
        found = discounted_returns(rewards, next_values, *flags, discount)
        for t in reversed(range(length)):
            if not (first_visit and states[t] in states[:t]):
                lists[states[t]].append(found[t])
    means = [np.mean(x) if x else v for x, v in zip(lists, values, strict=True)]
    return np.array(means), np.array([len(x) for x in lists])


def batch_td(values, trajectory, discount, step_size, num_sweeps):
    """§6.3: all increments of a sweep are added up, then applied, again and again."""
    obs, rewards, next_obs, terminated, _ = trajectory
    values = np.array(values, float)
    for _ in range(num_sweeps):
        increment = np.zeros(len(values))
        for t, state in enumerate(obs):
            next_value = 0.0 if terminated[t] else values[next_obs[t]]
            increment[state] += rewards[t] + discount * next_value - values[state]
        values += step_size * increment
    return values
