"""The same learning rules as scalar NumPy loops, one step at a time."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import protocol

STEP_SIZE, DISCOUNT, EPSILON, C = 0.1, 0.99, 0.1, 2.0


class LoopGrid:
    """The 5×5 grid, one step at a time."""

    walls = frozenset({(1, 1), (2, 1), (3, 1), (1, 3), (2, 3)})
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def reset(self):
        """Puts the agent on the start."""
        self.cell = (0, 0)
        return self.cell

    def step(self, action):
        """Moves: (cell, reward, done)."""
        row, column = self.cell
        down, right = self.moves[action]
        target = (row + down, column + right)
        inside = 0 <= target[0] < 5 and 0 <= target[1] < 5
        if inside and target not in self.walls:
            self.cell = target
        done = self.cell == (4, 4)
        return self.cell, 1.0 if done else -0.01, done


def loop_q_learning(num_steps: int, seed: Any) -> np.ndarray:
    """Q-learning as scalar code, [5, 5, 4]."""
    rng = np.random.default_rng(seed)
    env = LoopGrid()
    q_values = np.zeros((5, 5, 4))
    cell = env.reset()
    for _ in range(num_steps):
        if rng.random() < EPSILON:
            action = int(rng.integers(4))
        else:
            action = int(np.argmax(q_values[cell]))
        next_cell, reward, done = env.step(action)
        target = reward + (0.0 if done else DISCOUNT * np.max(q_values[next_cell]))
        q_values[cell][action] += STEP_SIZE * (target - q_values[cell][action])
        cell = env.reset() if done else next_cell
    return q_values


def loop_ucb(num_bandits: int, num_pulls: int, seed: Any) -> np.ndarray:
    """UCB as scalar code: expected regret, [num_bandits]."""
    rng = np.random.default_rng(seed)
    regrets = np.zeros(num_bandits)
    for i in range(num_bandits):
        means = rng.normal(1.0, 0.5, 5)
        q_values, counts = np.zeros(5), np.zeros(5)
        for t in range(num_pulls):
            bonus = C * np.sqrt(np.log(t + 1) / (counts + 1e-8))
            arm = int(np.argmax(q_values + bonus))
            reward = rng.normal(means[arm], 0.3)
            counts[arm] += 1
            q_values[arm] += (reward - q_values[arm]) / counts[arm]
            regrets[i] += np.max(means) - means[arm]
    return regrets


def greedy_path_lengths(tables: Any) -> np.ndarray:
    """Steps of each table's greedy path on the 5×5 grid, 25 if it doesn't arrive."""
    env, targets = LoopGrid(), np.zeros((25, 4), int)
    for index, action in np.ndindex(25, 4):
        env.cell = divmod(index, 5)
        (row, column), _, _ = env.step(action)
        targets[index, action] = 5 * row + column
    actions = np.argmax(np.asarray(tables).reshape(-1, 25, 4), axis=-1)
    following = targets[np.arange(25), actions]
    cells = np.zeros(len(following), int)
    lengths = np.zeros(len(following), int)
    for _ in range(25):
        lengths += cells != 24
        cells = np.where(cells == 24, 24, following[np.arange(len(cells)), cells])
    return lengths


def path_check(tables: Any) -> dict[str, Any]:
    """The share of Q-tables whose greedy path is a shortest one, of 8 steps."""
    return {"shortest_paths": float(np.mean(greedy_path_lengths(tables) == 8))}


def regret_check(regrets: Any) -> dict[str, Any]:
    """Mean regret after the last pull, and its standard error."""
    error = np.std(regrets) / len(regrets) ** 0.5
    return {"regret": float(np.mean(regrets)), "regret_error": float(error)}


def prepared(
    loop: Callable[[Any], Any], check: Callable[[Any], Any], work: int, seed: int
) -> tuple[protocol.Run, dict[str, Any]]:
    def run(number):
        start = time.perf_counter()
        out = loop([seed, number])
        return time.perf_counter() - start, work, check(out)

    return run, {}


def q_learning(num_steps: int, seed: int):
    def loop(seed):
        return loop_q_learning(num_steps, seed)

    return prepared(loop, path_check, num_steps, seed)


def bandits(num_bandits: int, num_pulls: int, seed: int):
    def loop(seed):
        return loop_ucb(num_bandits, num_pulls, seed)

    return prepared(loop, regret_check, num_bandits * num_pulls, seed)


if __name__ == "__main__":
    protocol.serve({"q_learning": q_learning, "bandits": bandits}, ["numpy"])
