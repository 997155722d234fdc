"""One process of several in a sweep: python two_processes.py PORT COUNT INDEX FOLDER.

COUNT 0 runs everything in this process alone, on as many devices.
"""

import pickle
import sys
from pathlib import Path

import jax

import rljax
from rljax.experiment import checkpoint, writers

AGENT = rljax.PPO(num_envs=2, rollout_length=16, num_minibatches=2, hidden_sizes=(8,))


def run(folder, num_updates, resume):
    return rljax.sweep(
        AGENT,
        rljax.make("CartPole-v1"),
        jax.random.key(0),
        num_seeds=3,
        num_updates=num_updates,
        settings={"learning_rate": [1e-3, 3e-3, 1e-2]},
        num_episodes=4,
        callbacks=[writers.CSVWriter(folder / "metrics.csv")],
        checkpoints=checkpoint.Checkpoints(folder / "checkpoints", interval=0.0),
        resume=resume,
    )


def main(port, count, index, folder):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2 if count else 4)
    if count:
        jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    run(folder, 5, resume=False)
    result = run(folder, 8, resume=True)
    content = {
        "devices": len(jax.devices()),
        "processes": jax.process_count(),
        "params": [outcome.agent_state.params for outcome in result.outcomes],
        "metrics": [outcome.metrics for outcome in result.outcomes],
        "scores": result.scores,
    }
    with open(folder / f"result_{index}.pickle", "wb") as file:
        pickle.dump(content, file)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
