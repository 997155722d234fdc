"""Tile coding and semi-gradient Sarsa, as scalar loops.

Sutton and Barto (2018), §9.5.4 and §10.1.
"""

import numpy as np


def tiles(obs, low, high, num_tilings, num_tiles):
    """The active tile of each tiling: {(tiling, cell, cell, …)} as a list.

    Tiling i is displaced by i (1, 3, 5, …) / num_tilings tiles, whole tiles left out.
    Its cells in a dimension are looked for one by one; the last one holds the edge.
    """
    active = []
    for i in range(num_tilings):
        cells = []
        for d in range(len(obs)):
            width = (high[d] - low[d]) / num_tiles
            displacement = ((2 * d + 1) * i % num_tilings) / num_tilings
            last = num_tiles - 1 if displacement == 0 else num_tiles
            for cell in range(last + 1):
                upper = low[d] + (cell + 1 - displacement) * width
                if obs[d] < upper or cell == last:
                    cells.append(cell)
                    break
        active.append((i, *cells))
    return active


def sarsa(weights, features, trajectory, policy, step_size, discount):
    """Changes w [F, A] as episodic semi-gradient Sarsa does.

    Args:
      weights: [F, A], q(s,a) = Σ_i w[i,a] over the features i active in s.
      features: a function of an observation, the list of its active features.
      trajectory: arrays [T, N] as in `oracles.tabular`.
      policy: a function of q(s,·), π(·|s).
      step_size: α; each active weight moves by α/K of the error.
      discount: γ.
    """
    num_steps, num_envs = trajectory.reward.shape

    def values(obs):
        q = np.zeros(weights.shape[1])
        for i in features(obs):
            for a in range(len(q)):
                q[a] += weights[i, a]
        return q

    def learn(obs, a, target):
        error = target - values(obs)[a]
        active = features(obs)
        for i in active:
            weights[i, a] += step_size / len(active) * error

    waiting = {}
    for t in range(num_steps):
        for n in range(num_envs):
            obs, a = trajectory.obs[t, n], int(trajectory.action[t, n])
            reward = float(trajectory.reward[t, n])
            if n in waiting:
                *before, earlier = waiting.pop(n)
                learn(*before, earlier + discount * values(obs)[a])
            if trajectory.terminated[t, n]:
                learn(obs, a, reward)
            elif trajectory.truncated[t, n]:
                q = values(trajectory.next_obs[t, n])
                learn(obs, a, reward + discount * float(policy(q) @ q))
            else:
                waiting[n] = (obs, a, reward)
