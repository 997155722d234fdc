"""Planning as loops over states and actions, and by NumPy's linear algebra.

An MDP is P [S, A, S], R [S, A] and terminal [S]. V = 0 at terminal states, whatever
their rows hold. For a policy π(a|s), the live states L obey

    V(s) = Σ_a π(a|s) [R(s,a) + γ Σ_s' P(s'|s,a) V(s')]      s ∈ L

in which terminal successors drop out, so (I − γ P_π[L, L]) V[L] = R_π[L].

The optimal V has max_a Q(s,a) = V(s) at all s ∈ L; conversely, V is within
max_s |max_a Q(s,a) − V(s)| / (1 − γ) of it.
"""

import numpy as np


def grid_5x5():
    """P, R and terminal of the published grid, from its coordinates."""
    walls = {(1, 1), (2, 1), (3, 1), (1, 3), (2, 3)}
    goal = (4, 4)
    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]  # up, down, left, right
    transitions, rewards = np.zeros((25, 4, 25)), np.zeros((25, 4))
    terminal = np.zeros(25, bool)
    for row in range(5):
        for column in range(5):
            state = 5 * row + column
            if (row, column) in walls or (row, column) == goal:
                transitions[state, :, state] = 1
                terminal[state] = True
                continue
            for action, (down, right) in enumerate(moves):
                to = (row + down, column + right)
                if not (0 <= to[0] < 5 and 0 <= to[1] < 5) or to in walls:
                    to = (row, column)
                transitions[state, action, 5 * to[0] + to[1]] = 1
                rewards[state, action] = 1.0 if to == goal else -0.01
    return transitions, rewards, terminal


def q_values(transitions, rewards, terminal, values, discount):
    """R(s,a) + γ Σ_s' P(s'|s,a) V(s'), 0 at terminal states."""
    num_states, num_actions = rewards.shape
    q = np.zeros((num_states, num_actions))
    for s in range(num_states):
        for a in range(num_actions):
            if not terminal[s]:
                live = transitions[s, a] * ~terminal
                q[s, a] = rewards[s, a] + discount * (live @ values)
    return q


def gauss_seidel(transitions, rewards, terminal, discount=0.99, theta=1e-6):
    """Value iteration as published: in place, in the order of the states, from V = 0.

    Returns the values after each sweep, each sweep's largest change (the last one is
    the first below theta), and the greedy policy, ties to the lowest action.
    """
    num_states, num_actions = rewards.shape
    values = np.zeros(num_states)
    history, changes = [], []
    while not changes or changes[-1] >= theta:
        change = 0.0
        for s in range(num_states):
            if terminal[s]:
                continue
            old = values[s]
            values[s] = max(
                rewards[s, a] + discount * (transitions[s, a] @ values)
                for a in range(num_actions)
            )
            change = max(change, abs(values[s] - old))
        history.append(values.copy())
        changes.append(change)
    policy = np.zeros(num_states, int)
    q = q_values(transitions, rewards, terminal, values, discount)
    for s in range(num_states):
        for a in range(1, num_actions):
            if q[s, a] > q[s, policy[s]]:
                policy[s] = a
    return history, changes, policy


def policy_evaluation(transitions, rewards, terminal, policy, discount):
    """V^π by solving the live states' equations; policy is [S] or [S, A]."""
    num_states, num_actions = rewards.shape
    if np.ndim(policy) == 1:
        policy = np.eye(num_actions)[policy]
    live = np.flatnonzero(~terminal)
    chain = np.einsum("sa,sat->st", policy, transitions)[np.ix_(live, live)]
    reward = (policy * rewards).sum(-1)[live]
    values = np.zeros(num_states)
    values[live] = np.linalg.solve(np.eye(len(live)) - discount * chain, reward)
    return values


def optimality_gap(transitions, rewards, terminal, values, discount):
    """max_s |max_a Q(s,a) − V(s)|, 0 for the optimal values and no others."""
    q = q_values(transitions, rewards, terminal, values, discount)
    return np.abs(q.max(-1) - values).max()
