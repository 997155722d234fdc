"""Reinforcement learning from scratch, as pure functions of pytrees.

env = rljax.make("CartPole-v1")
train_state, metrics = rljax.train(
    rljax.PPO(), env, jax.random.key(0), num_updates=200
)
"""

from rljax import (
    agents,
    bandits,
    distributions,
    envs,
    exploration,
    losses,
    metrics,
    networks,
    parallel,
    planning,
    plotting,
    random,
    regret,
    returns,
    rollout,
    spaces,
    struct,
    testing,
    types,
)
from rljax.agents import (
    PPO,
    ActorCritic,
    DoubleQLearning,
    ExpectedSarsa,
    GradientBandit,
    QLearning,
    Reinforce,
    Sarsa,
)
from rljax.envs import (
    BernoulliBandit,
    CartPole,
    GaussianBandit,
    GridWorld,
    TimeLimit,
    make,
)
from rljax.evaluate import Evaluation, evaluate
from rljax.train import Metrics, TrainState, init_train, train, train_step
from rljax.types import MDP, TimeStep, Transition

__version__ = "0.1.0"

__all__ = [
    "MDP",
    "PPO",
    "ActorCritic",
    "BernoulliBandit",
    "CartPole",
    "DoubleQLearning",
    "Evaluation",
    "ExpectedSarsa",
    "GaussianBandit",
    "GradientBandit",
    "GridWorld",
    "Metrics",
    "QLearning",
    "Reinforce",
    "Sarsa",
    "TimeLimit",
    "TimeStep",
    "TrainState",
    "Transition",
    "agents",
    "bandits",
    "distributions",
    "envs",
    "evaluate",
    "exploration",
    "init_train",
    "losses",
    "make",
    "metrics",
    "networks",
    "parallel",
    "planning",
    "plotting",
    "random",
    "regret",
    "returns",
    "rollout",
    "spaces",
    "struct",
    "testing",
    "train",
    "train_step",
    "types",
]
