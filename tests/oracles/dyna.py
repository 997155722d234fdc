"""Dyna-Q and Dyna-Q+ over a list of transitions, as the book's box has them.

The trajectory is as for `tabular`. The random words of planning are given, [T, N, n, 2]
in [0, 1): the first picks a state, the second an action.
"""

import math

import numpy as np

from tests.oracles.tabular import steps


def dyna_q(q, words, trajectory, step_size, discount, bonus=0.0):
    """Changes the table q; returns (model, times, TD errors of the steps themselves).

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
            s = states[math.floor(word_state * len(states))]
            actions = sorted(model[s])
            if bonus > 0:
                actions = list(range(q.shape[1]))
            a = actions[math.floor(word_action * len(actions))]
            reward, successor, terminated = model[s].get(a, (0.0, s, False))
            waited = now - times.get((s, a), 0)
            reward = reward + bonus * np.sqrt(waited)
            learn(s, a, reward, successor, terminated)
    return model, times, errors
