"""Four games of bsuite (Osband et al., 2020), an episode at a time and cell by cell.

Each function takes what is drawn at random and all actions of an episode, and returns
the observations, one more than there are actions, and the rewards.
"""

import numpy as np

# The action that goes right in each cell of the 10 × 10 sea, in the experiments of
# bsuite: its DeepSea(10, mapping_seed=42)._action_mapping.
DEEP_SEA_10 = [
    "0111000111",
    "0110000100",
    "1000010110",
    "1001110010",
    "0001010110",
    "1111110000",
    "0010010101",
    "1001111000",
    "1100001110",
    "0111101000",
]


def catch(ball, actions, rows, columns):
    """`ball` is its column."""
    paddle, boards = columns // 2, []
    for row in range(rows):
        if row > 0:
            paddle += {0: -1, 1: 0, 2: 1}[actions[row - 1]]
            paddle = min(max(paddle, 0), columns - 1)
        board = np.zeros((rows, columns))
        board[row, ball] = board[rows - 1, paddle] = 1
        boards.append(board)
    return boards, [0] * (rows - 2) + [1 if paddle == ball else -1]


def deep_sea(goes_right, actions, fails, noise, move_cost):
    """`goes_right` [N][N], `fails` and `noise` for each step; 0 if deterministic."""
    size, column, boards, rewards = len(goes_right), 0, [], []
    for row, action in enumerate(actions):
        board = np.zeros((size, size))
        board[row, column] = 1
        boards.append(board)
        reward = 0.0
        if row == size - 1 and column in (0, size - 1):
            reward += noise[row]
        if action != goes_right[row][column]:
            column = max(column - 1, 0)
        else:
            reward -= move_cost / size
            if column == size - 1:
                reward += 1
            elif not fails[row]:
                column += 1
        rewards.append(reward)
    return [*boards, np.zeros((size, size))], rewards


def memory_chain(context, query, actions, memory_length):
    """`context` holds 0 and 1, `query` the index of one of them."""

    def shown(time):
        obs = [1 - time / memory_length, 0] + [0] * len(context)
        if time == 0:
            obs[2:] = [(-1, 1)[bit] for bit in context]
        if time == memory_length - 1:
            obs[1] = query
        return [obs]

    # What is seen at first, each step shows before the time goes on.
    observations = [shown(0)] + [shown(time) for time in range(memory_length + 1)]
    right = actions[memory_length] == context[query]
    return observations, [0] * memory_length + [1 if right else -1]


def umbrella(need, have, distractors, coins, actions):
    """`distractors` for each observation, a coin for each step's reward."""
    length = len(actions)
    observations = [[[need, have, 1, *distractors[0]]]]
    for time in range(1, length + 1):
        left = 1 - time / length
        observations.append([[need, actions[0], left, *distractors[time]]])
    rewards = [1 if coin else -1 for coin in coins]
    rewards[-1] = 1 if actions[0] == need else -1
    return observations, rewards
