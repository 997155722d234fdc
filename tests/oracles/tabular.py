"""The tabular agents over a list of transitions, as scalar loops.

A trajectory is an object with arrays [T, N]: obs, action, reward, terminated,
truncated, next_obs. N environments share one table, which learns from them in the
order of time and, at one time, of the environments. Everywhere

    Q(s,a) ← Q(s,a) + α (y − Q(s,a)),   y = r + γ (1 − terminated) · V(s')

and the agents differ in V(s'). `step_size` None means α = 1/n for the n-th update of
Q(s,a), which makes Q(s,a) the mean of its targets. Every function changes the table
that it is given and returns the TD errors in the order of the updates.
"""

import numpy as np


class StepSizes:
    """α of each update: a constant, or 1/n."""

    def __init__(self, step_size, shape):
        self.step_size, self.updates = step_size, np.zeros(shape, int)

    def __call__(self, s, a):
        self.updates[s, a] += 1
        return 1 / self.updates[s, a] if self.step_size is None else self.step_size


def steps(trajectory):
    """(t, n, s, a, r, terminated, truncated, s') in the order of learning."""
    num_steps, num_envs = trajectory.reward.shape
    for t in range(num_steps):
        for n in range(num_envs):
            yield (
                t,
                n,
                int(trajectory.obs[t, n]),
                int(trajectory.action[t, n]),
                float(trajectory.reward[t, n]),
                bool(trajectory.terminated[t, n]),
                bool(trajectory.truncated[t, n]),
                int(trajectory.next_obs[t, n]),
            )


def expected_sarsa(q, trajectory, policy, step_size, discount):
    """V(s') = Σ_a' π(a'|s') Q(s',a'), with policy(q_row) = π."""
    alpha, errors = StepSizes(step_size, q.shape), []
    for _, _, s, a, reward, terminated, _, successor in steps(trajectory):
        value = 0.0
        if not terminated:
            probabilities = policy(q[successor])
            for b in range(q.shape[1]):
                value += probabilities[b] * q[successor, b]
        error = reward + discount * value - q[s, a]
        q[s, a] += alpha(s, a) * error
        errors.append(error)
    return errors


def q_learning(q, trajectory, step_size, discount):
    """V(s') = max_a' Q(s',a')."""

    def best(row):
        return [1.0 if b == int(np.argmax(row)) else 0.0 for b in range(len(row))]

    return expected_sarsa(q, trajectory, best, step_size, discount)


def double_q_learning(q, coins, trajectory, step_size, discount):
    """V(s') = Q_j(s', argmax_a' Q_i(s',a')), q [2, S, A], i by the coin, j the other.

    α = 1/n counts the updates of both tables together.
    """
    alpha, errors = StepSizes(step_size, q.shape[1:]), []
    for t, n, s, a, reward, terminated, _, successor in steps(trajectory):
        learner = 1 if coins[t, n] else 0
        best = int(np.argmax(q[learner, successor]))
        value = 0.0 if terminated else q[1 - learner, successor, best]
        error = reward + discount * value - q[learner, s, a]
        q[learner, s, a] += alpha(s, a) * error
        errors.append(error)
    return errors


def sarsa(q, trajectory, policy, step_size, discount, lambda_=None):
    """V(s') = Q(s',a') with a' the action taken next; without one, Σ_a' π(a') Q(s',a').

    A step is learned from once the next action of its environment is known, and at once
    where it ends an episode. The last step of a trajectory waits, if it ends none.
    With λ, each environment has traces of its own, 0 at the start of an episode:
    E ← γλE, E(s,a) ← E(s,a) + 1, Q ← Q + αδE over all entries.
    """
    alpha, errors = StepSizes(step_size, q.shape), []
    traces = [np.zeros_like(q) for _ in range(trajectory.reward.shape[1])]

    def learn(n, s, a, target):
        error = target - q[s, a]
        if lambda_ is None:
            q[s, a] += alpha(s, a) * error
        else:
            traces[n] *= discount * lambda_
            traces[n][s, a] += 1
            q[:] += alpha(s, a) * error * traces[n]
        errors.append(error)

    waiting = {}
    for _, n, s, a, reward, terminated, truncated, successor in steps(trajectory):
        if n in waiting:
            before = waiting.pop(n)
            learn(n, *before[:2], before[2] + discount * q[s, a])
        if terminated or truncated:
            value = 0.0
            if not terminated:
                value = float(np.dot(policy(q[successor]), q[successor]))
            learn(n, s, a, reward + discount * value)
            traces[n][:] = 0
        else:
            waiting[n] = (s, a, reward)
    return errors


def gradient_bandit(
    preferences, values, trajectory, policy, step_size, discount, baseline_step_size
):
    """H(s,b) ← H(s,b) + α (y − V(s)) (1[b = a] − π(b|s)), then V(s) ← V(s) + β (y − V).

    y = r + γ (1 − terminated) V(s'); at the first visit V(s) = y beforehand. β None is
    1/n for the n-th visit, which makes V(s) the mean of its targets. β 0 is no
    baseline: V = 0 always.
    """
    visits = np.zeros(len(values), int)
    for _, _, s, a, reward, terminated, _, successor in steps(trajectory):
        target = reward + (0.0 if terminated else discount * values[successor])
        visits[s] += 1
        if visits[s] == 1 and baseline_step_size != 0:
            values[s] = target
        error = target - values[s]
        probabilities = policy(preferences[s])
        for b in range(preferences.shape[1]):
            chosen = 1.0 if b == a else 0.0
            preferences[s, b] += step_size * error * (chosen - probabilities[b])
        beta = 1 / visits[s] if baseline_step_size is None else baseline_step_size
        values[s] += beta * error


def dyna_q(q, words, trajectory, step_size, discount, bonus=0.0):
    """V(s') = max_a' Q(s',a') of each step, and of n that the model recalls after it.

    The words of planning are [T, N, n, 2] in [0, 1): the first picks one of the states
    seen so far, the second one of the actions taken there, or with a bonus of all.
    Returns (model, times, TD errors of the steps themselves).

    The model is {s: {a: (r, s', terminated)}}, with states in the order of their first
    visits; times are {(s, a): number of the step that last took a in s, from 1}.
    """
    model, times, errors = {}, {}, []

    def learn(s, a, reward, successor, terminated):
        best = 0.0 if terminated else max(q[successor])
        error = reward + discount * best - q[s, a]
        q[s, a] += step_size * error
        return error

    for t, n, s, a, reward, terminated, _, successor in steps(trajectory):
        errors.append(learn(s, a, reward, successor, terminated))
        now = len(errors)
        model.setdefault(s, {})[a] = (reward, successor, terminated)
        times[s, a] = now
        for word_state, word_action in words[t, n]:
            states = list(model)
            s = states[int(word_state * len(states))]
            actions = sorted(model[s])
            if bonus > 0:
                actions = list(range(q.shape[1]))
            a = actions[int(word_action * len(actions))]
            reward, successor, terminated = model[s].get(a, (0.0, s, False))
            waited = now - times.get((s, a), 0)
            reward = reward + bonus * np.sqrt(waited)
            learn(s, a, reward, successor, terminated)
    return model, times, errors
