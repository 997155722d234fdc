"""Reinforcement learning from scratch, as pure functions of pytrees.

env = rljax.make("CartPole-v1")
train_state, metrics = rljax.train(
    rljax.PPO(), env, jax.random.key(0), num_updates=200
)
"""

from rljax import (
    agents,
    distributions,
    envs,
    losses,
    metrics,
    networks,
    parallel,
    plotting,
    returns,
    rollout,
    spaces,
    struct,
    testing,
    types,
)
from rljax.agents import PPO, ActorCritic, Reinforce
from rljax.envs import CartPole, TimeLimit, make
from rljax.evaluate import Evaluation, evaluate
from rljax.train import Metrics, TrainState, init_train, train, train_step
from rljax.types import TimeStep, Transition

__version__ = "0.1.0"

__all__ = [
    "PPO",
    "ActorCritic",
    "CartPole",
    "Evaluation",
    "Metrics",
    "Reinforce",
    "TimeLimit",
    "TimeStep",
    "TrainState",
    "Transition",
    "agents",
    "distributions",
    "envs",
    "evaluate",
    "init_train",
    "losses",
    "make",
    "metrics",
    "networks",
    "parallel",
    "plotting",
    "returns",
    "rollout",
    "spaces",
    "struct",
    "testing",
    "train",
    "train_step",
    "types",
]
