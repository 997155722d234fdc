"""Reinforcement learning from scratch, as pure functions of pytrees.

env = rljax.make("CartPole-v1")
train_state, metrics = rljax.train(
    rljax.PPO(), env, jax.random.key(0), num_updates=200
)
"""

from rljax import (
    agents,
    bandits,
    checkpoint,
    distributions,
    envs,
    exploration,
    faults,
    losses,
    metrics,
    networks,
    parallel,
    planning,
    plotting,
    random,
    regret,
    regularized,
    reports,
    results,
    returns,
    rollout,
    settings,
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
    TokenMDP,
    make,
)
from rljax.evaluate import Evaluation, evaluate
from rljax.results import SweepResult
from rljax.sweep import sweep
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
    "SweepResult",
    "TimeLimit",
    "TimeStep",
    "TokenMDP",
    "TrainState",
    "Transition",
    "agents",
    "bandits",
    "checkpoint",
    "distributions",
    "envs",
    "evaluate",
    "exploration",
    "faults",
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
    "regularized",
    "reports",
    "results",
    "returns",
    "rollout",
    "settings",
    "spaces",
    "struct",
    "sweep",
    "testing",
    "train",
    "train_step",
    "types",
]
