"""Reinforcement learning from scratch, as pure functions of pytrees.

env = rljax.make("CartPole-v1")
train_state, metrics = rljax.train(
    rljax.PPO(), env, jax.random.key(0), num_updates=200
)

`rljax/README.md` is the map of the house: what each module is for, and in which order
to read them.
"""

from rljax import (
    agents,
    checks,
    contract,
    distributions,
    envs,
    evaluation,
    experiment,
    losses,
    networks,
    parallel,
    random,
    returns,
    rlhf,
    rollout,
    spaces,
    struct,
    tabular,
    testing,
    training,
    types,
)
from rljax.agents import PPO, ActorCritic, Reinforce
from rljax.envs import (
    BernoulliBandit,
    CartPole,
    GaussianBandit,
    GridWorld,
    TimeLimit,
    make,
)
from rljax.evaluation import Evaluation, KeepBest, evaluate
from rljax.experiment.results import SweepResult
from rljax.experiment.sweep import sweep
from rljax.rlhf import DPO, GRPO, PPOKL, RLOO, TokenMDP
from rljax.tabular import (
    DoubleQLearning,
    ExpectedSarsa,
    GradientBandit,
    QLearning,
    Sarsa,
    bandits,
    exploration,
    planning,
    regret,
)
from rljax.training import (
    Metrics,
    TrainState,
    init_train,
    train,
    train_step,
    train_steps,
)
from rljax.types import MDP, Agent, Env, RolloutPlan, TimeStep, Transition

__version__ = "0.1.0"

__all__ = [
    "DPO",
    "GRPO",
    "MDP",
    "PPO",
    "PPOKL",
    "RLOO",
    "ActorCritic",
    "Agent",
    "BernoulliBandit",
    "CartPole",
    "DoubleQLearning",
    "Env",
    "Evaluation",
    "ExpectedSarsa",
    "GaussianBandit",
    "GradientBandit",
    "GridWorld",
    "KeepBest",
    "Metrics",
    "QLearning",
    "Reinforce",
    "RolloutPlan",
    "Sarsa",
    "SweepResult",
    "TimeLimit",
    "TimeStep",
    "TokenMDP",
    "TrainState",
    "Transition",
    "agents",
    "bandits",
    "checks",
    "contract",
    "distributions",
    "envs",
    "evaluate",
    "evaluation",
    "experiment",
    "exploration",
    "init_train",
    "losses",
    "make",
    "networks",
    "parallel",
    "planning",
    "random",
    "regret",
    "returns",
    "rlhf",
    "rollout",
    "spaces",
    "struct",
    "sweep",
    "tabular",
    "testing",
    "train",
    "train_step",
    "train_steps",
    "training",
    "types",
]
