"""Planning as loops over states and actions, and by NumPy's linear algebra.

An MDP is P [S, A, S], R [S, A] and terminal [S]. V = 0 at terminal states, whatever
their rows hold. For a policy π(a|s), the live states L obey

    V(s) = Σ_a π(a|s) [R(s,a) + γ Σ_s' P(s'|s,a) V(s')]      s ∈ L

in which terminal successors drop out, so (I − γ P_π[L, L]) V[L] = R_π[L].

The optimal V has max_a Q(s,a) = V(s) at all s ∈ L; conversely, V is within
max_s |max_a Q(s,a) − V(s)| / (1 − γ) of it.

At γ = 1 a chain ends up in a recurrent class: states of which each reaches all others
and nothing else. What it earns in one that is no end, it earns infinitely often.
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


def recurrent_states(chain):
    """Which states lead to no state without a way back; and which leads where."""
    num_states = len(chain)
    reach = np.linalg.matrix_power((chain > 0) + np.eye(num_states), num_states) > 0
    return np.array([reach[reach[s], s].all() for s in range(num_states)]), reach


def total_reward(transitions, rewards, terminal, policy):
    """V^π at γ = 1: infinite where a recurrent class has rewards, NaN if of both signs.

    Elsewhere V^π is 0 in recurrent classes, and (I − P_π[T, T]) V[T] = R_π[T] at the
    transient states T.
    """
    num_states, num_actions = rewards.shape
    if np.ndim(policy) == 1:
        policy = np.eye(num_actions)[policy]
    chain = np.einsum("sa,sat->st", policy, transitions)
    chain[terminal] = np.eye(num_states)[terminal]
    recurrent, reach = recurrent_states(chain)
    taken = (policy > 0) & (recurrent & ~terminal)[:, None]
    gains = (reach & (taken & (rewards > 0)).any(-1)).any(-1)
    losses = (reach & (taken & (rewards < 0)).any(-1)).any(-1)
    rest = np.flatnonzero(~(recurrent | gains | losses))
    values = np.zeros(num_states)
    reward = (policy * rewards).sum(-1)[rest]
    inside = chain[np.ix_(rest, rest)]
    values[rest] = np.linalg.solve(np.eye(len(rest)) - inside, reward)
    values[gains], values[losses], values[gains & losses] = np.inf, -np.inf, np.nan
    return values


def best_total_reward(transitions, rewards, terminal):
    """V* at γ = 1 by trying all deterministic policies, or None if it is unbounded.

    It is unbounded if a policy has a recurrent class of positive mean reward, which is
    the mean over a long time from a state of that class.
    """
    num_states, num_actions = rewards.shape
    states, best = np.arange(num_states), np.full(num_states, -np.inf)
    for actions in np.ndindex(*[num_actions] * (~terminal).sum()):
        policy = np.zeros(num_states, int)
        policy[~terminal] = actions
        chain = np.where(
            terminal[:, None], np.eye(num_states), transitions[states, policy]
        )
        reward = np.where(terminal, 0, rewards[states, policy])
        # The lazy chain has the same means, and no periods.
        long = np.linalg.matrix_power((chain + np.eye(num_states)) / 2, 2**14)
        if (long @ reward > 1e-9).any():
            return None
        best = np.fmax(best, total_reward(transitions, rewards, terminal, policy))
    return best
