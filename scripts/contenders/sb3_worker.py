"""Stable-Baselines3's PPO on CartPole-v1, on the CPU as its documentation advises."""

import time
from typing import Any

import protocol
import torch  # pyright: ignore[reportMissingImports]
from stable_baselines3 import PPO  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.env_util import (  # pyright: ignore[reportMissingImports]
    make_vec_env,
)
from stable_baselines3.common.evaluation import (  # pyright: ignore[reportMissingImports]
    evaluate_policy,
)


def ppo(num_steps: int, seed: int, settings: dict[str, Any]):
    """Training from scratch, and then a greedy evaluation that is not timed."""
    num_envs, update_steps = settings["num_envs"], settings["num_steps"]

    def make(seed):
        return PPO(
            "MlpPolicy",
            make_vec_env("CartPole-v1", n_envs=num_envs, seed=seed),
            n_steps=update_steps,
            batch_size=num_envs * update_steps // settings["num_minibatches"],
            n_epochs=settings["num_epochs"],
            learning_rate=settings["learning_rate"],
            gamma=0.99,
            gae_lambda=0.95,
            clip_range=0.2,
            clip_range_vf=0.2,
            ent_coef=0.01,
            vf_coef=0.5,
            max_grad_norm=0.5,
            policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}},
            device="cpu",
            seed=seed,
        )

    def run(number):
        model = make(1000 * seed + number)
        start = time.perf_counter()
        model.learn(num_steps)
        seconds = time.perf_counter() - start
        score, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=100)
        steps = int(model.num_timesteps)
        return seconds, steps, {"return": float(score), "steps": steps}

    return run, {"devices": f"{torch.get_num_threads()} CPU threads"}


if __name__ == "__main__":
    protocol.serve({"ppo": ppo}, ["stable-baselines3", "torch", "gymnasium", "numpy"])
