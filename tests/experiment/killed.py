"""A sweep of every agent: python killed.py FOLDER UPDATES CHUNK_SECONDS INTERVAL.

Saves every INTERVAL seconds and resumes what it finds in FOLDER; when it is done, it
writes result.pickle there.
"""

import pickle
import sys
from pathlib import Path

import jax
import numpy as np

import rljax
from rljax.experiment import checkpoint, runner

SMALL = {"num_envs": 2, "rollout_length": 8, "hidden_sizes": (8,)}
TABLE = {
    "num_envs": 2,
    "rollout_length": 8,
    "exploration": rljax.exploration.EpsilonGreedy(0.1),
}
AGENTS = {
    "reinforce": rljax.Reinforce(**SMALL),
    "actor-critic": rljax.ActorCritic(**SMALL),
    "ppo": rljax.PPO(**SMALL, num_minibatches=2),
    "q": rljax.QLearning(**TABLE),
    "double-q": rljax.DoubleQLearning(**TABLE),
    "dyna-q": rljax.DynaQ(**TABLE, num_planning_steps=2),
    "sarsa": rljax.Sarsa(**TABLE),
    "expected-sarsa": rljax.ExpectedSarsa(**TABLE),
    "gradient-bandit": rljax.GradientBandit(num_envs=2, rollout_length=8),
}
ENVS = {
    "maze": rljax.make("GridWorld-5x5", slip=0.1),
    "bandit": rljax.make("GaussianBandit-5"),
}


def main(folder, num_updates, chunk_seconds, interval):
    jax.config.update("jax_num_cpu_devices", 2)
    runner.CHUNK_SECONDS = chunk_seconds
    settings = [
        {"agent": name, "env": "bandit" if name == "gradient-bandit" else "maze"}
        for name in AGENTS
    ]
    result = rljax.sweep(
        AGENTS,
        ENVS,
        jax.random.key(0),
        num_seeds=3,
        num_updates=num_updates,
        settings=settings,
        num_episodes=2,
        max_steps=20,
        checkpoints=checkpoint.Checkpoints(folder / "checkpoints", interval=interval),
        resume=True,
    )
    outcomes = [
        (o.train_state._replace(key=jax.random.key_data(o.train_state.key)), *o[4:])
        for o in result.outcomes
    ]
    with open(folder / "result.pickle", "wb") as file:
        pickle.dump(jax.tree.map(np.asarray, outcomes), file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:]))
