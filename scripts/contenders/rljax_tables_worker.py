"""rljax's tabular learning and bandits."""

import jax
import numpy as np
import programs
import protocol
from numpy_worker import DISCOUNT, EPSILON, STEP_SIZE, C, path_check, regret_check

import rljax
from rljax import parallel
from rljax.tabular import bandits, exploration


def q_learning(num_seeds: int, num_steps: int, seed: int):
    """Q-tables for the 5×5 grid, side by side."""
    env, rollout_length = rljax.make("GridWorld-5x5"), 500
    agent = rljax.QLearning(
        step_size=STEP_SIZE,
        discount=DISCOUNT,
        exploration=exploration.EpsilonGreedy(EPSILON),
        rollout_length=rollout_length,
    )

    def train(key):
        num_updates = num_steps // rollout_length
        state, _ = rljax.train(agent, env, key, num_updates=num_updates)
        return state.agent_state.q_values

    def keys(number):
        key = programs.run_key(seed, number)
        return key if num_seeds == 1 else jax.random.split(key, num_seeds)

    mapped = jax.jit(train) if num_seeds == 1 else parallel.map_seeds(train)
    program, facts = programs.compiled(mapped, keys(0))

    def run(number):
        seconds, q_values = programs.timed(program, keys(number))
        return seconds, num_seeds * num_steps, path_check(q_values)

    return run, facts


def play(num_bandits: int, num_pulls: int, seed: int):
    """UCB on many Gaussian bandits."""
    env = rljax.make("GaussianBandit-5")
    rule = exploration.UCB(C)
    agent = rljax.QLearning(step_size=None, discount=0.0, exploration=rule)

    def regret(key):
        _, pulls = bandits.play_bandit(agent, env, key, num_pulls=num_pulls)
        return pulls.expected_regret[-1]

    def keys(number):
        return jax.random.split(programs.run_key(seed, number), num_bandits)

    program, facts = programs.compiled(parallel.map_seeds(regret), keys(0))

    def run(number):
        seconds, regrets = programs.timed(program, keys(number))
        return seconds, num_bandits * num_pulls, regret_check(regrets)

    return run, facts


def six_rules(num_bandits: int, num_pulls: int, seed: int):
    """Six rules on all bandits with their curves, the compilation timed as well."""
    rules = {
        "ε-greedy": exploration.EpsilonGreedy(0.1),
        "softmax": exploration.Softmax(0.5),
        "UCB": exploration.UCB(2.0),
        "UCB1": exploration.UCB1(1.0),
        "KL-UCB": exploration.KLUCB(0.3),
        "Thompson": exploration.ThompsonGaussian(1.0, 0.5, 0.3),
    }
    agents = {
        name: [rljax.QLearning(step_size=None, discount=0.0, exploration=rule)]
        for name, rule in rules.items()
    }
    env = rljax.make("GaussianBandit-5")

    def compare(key):
        sizes = {"num_bandits": num_bandits, "num_pulls": num_pulls}
        return bandits.compare_bandits(agents, env, key, **sizes)

    def run(number):
        seconds, (curves, _) = programs.timed(compare, programs.run_key(seed, number))
        lengths = {int(curve.pulls[-1]) for curve in curves.values()}
        finite = all(np.isfinite(c.expected_regret).all() for c in curves.values())
        check = {"complete": len(curves) == 6 and lengths == {num_pulls} and finite}
        return seconds, 6 * num_bandits * num_pulls, check

    return run, programs.devices()


if __name__ == "__main__":
    parallel.use_cpu_cores()
    protocol.serve(
        {"q_learning": q_learning, "bandits": play, "six_rules": six_rules},
        ["jax", "jaxlib", "optax"],
    )
