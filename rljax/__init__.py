"""Reinforcement learning from scratch, as pure functions of pytrees.

env = rljax.make("CartPole-v1")
train_state, metrics = rljax.train(
    rljax.PPO(), env, jax.random.key(0), num_updates=200
)

`rljax/README.md` is the map of the house: what each module is for, and in which order
to read them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rljax import (
    agents,
    checks,
    contract,
    distributions,
    envs,
    evaluation,
    losses,
    networks,
    parallel,
    random,
    returns,
    rollout,
    spaces,
    struct,
    tabular,
    training,
    types,
)
from rljax.agents import PPO, ActorCritic, Reinforce
from rljax.envs import (
    LQR,
    Acrobot,
    BernoulliBandit,
    Blackjack,
    CartPole,
    Catch,
    DeepSea,
    FiniteMDP,
    FrameStack,
    Gambler,
    GaussianBandit,
    GridWorld,
    MemoryChain,
    MountainCar,
    MountainCarContinuous,
    Pendulum,
    Taxi,
    TimeLimit,
    Umbrella,
    make,
)
from rljax.evaluation import Evaluation, KeepBest, evaluate
from rljax.tabular import (
    DoubleQLearning,
    DynaQ,
    ExpectedSarsa,
    GradientBandit,
    LinearSarsa,
    QLearning,
    Sarsa,
    TileCoding,
    bandits,
    exploration,
    planning,
    prediction,
    regret,
)
from rljax.training import (
    Metrics,
    TrainState,
    init_train,
    train,
    train_for,
    train_step,
    train_steps,
)
from rljax.types import MDP, Agent, Env, RolloutPlan, TimeStep, Transition

if TYPE_CHECKING:
    from rljax import adapters, experiment, plotting, rlhf, testing
    from rljax.commands.load import load_run
    from rljax.experiment.results import SweepResult
    from rljax.experiment.sweep import run, sweep
    from rljax.rlhf import DPO, GRPO, PPOKL, RLOO, TokenMDP

__version__ = "0.1.0"

__all__ = [
    "DPO",
    "GRPO",
    "LQR",
    "MDP",
    "PPO",
    "PPOKL",
    "RLOO",
    "Acrobot",
    "ActorCritic",
    "Agent",
    "BernoulliBandit",
    "Blackjack",
    "CartPole",
    "Catch",
    "DeepSea",
    "DoubleQLearning",
    "DynaQ",
    "Env",
    "Evaluation",
    "ExpectedSarsa",
    "FiniteMDP",
    "FrameStack",
    "Gambler",
    "GaussianBandit",
    "GradientBandit",
    "GridWorld",
    "KeepBest",
    "LinearSarsa",
    "MemoryChain",
    "Metrics",
    "MountainCar",
    "MountainCarContinuous",
    "Pendulum",
    "QLearning",
    "Reinforce",
    "RolloutPlan",
    "Sarsa",
    "SweepResult",
    "Taxi",
    "TileCoding",
    "TimeLimit",
    "TimeStep",
    "TokenMDP",
    "TrainState",
    "Transition",
    "Umbrella",
    "adapters",
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
    "load_run",
    "losses",
    "make",
    "networks",
    "parallel",
    "planning",
    "plotting",
    "prediction",
    "random",
    "regret",
    "returns",
    "rlhf",
    "rollout",
    "run",
    "spaces",
    "struct",
    "sweep",
    "tabular",
    "testing",
    "train",
    "train_for",
    "train_step",
    "train_steps",
    "training",
    "types",
]

# Half of the time of importing rljax would be theirs, and few programs use them all.
_MODULE_OF = {
    **dict.fromkeys(("adapters", "experiment", "plotting", "rlhf", "testing")),
    **dict.fromkeys(("DPO", "GRPO", "PPOKL", "RLOO", "TokenMDP"), "rljax.rlhf"),
    "SweepResult": "rljax.experiment.results",
    **dict.fromkeys(("run", "sweep"), "rljax.experiment.sweep"),
    "load_run": "rljax.commands.load",
}


def __getattr__(name: str) -> Any:
    """Imports what `_MODULE_OF` names when it is first asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULE_OF[name]
    if module is None:
        return importlib.import_module(f"rljax.{name}")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
