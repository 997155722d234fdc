"""Learning rules. None of them imports an environment."""

from rljax.agents.actor_critic import ActorCritic
from rljax.agents.dpo import DPO
from rljax.agents.gradient_bandit import GradientBandit
from rljax.agents.grpo import GRPO
from rljax.agents.ppo import PPO
from rljax.agents.ppo_kl import PPOKL
from rljax.agents.q_learning import DoubleQLearning, ExpectedSarsa, QLearning
from rljax.agents.reinforce import Reinforce
from rljax.agents.rloo import RLOO
from rljax.agents.sarsa import Sarsa

__all__ = [
    "DPO",
    "GRPO",
    "PPO",
    "PPOKL",
    "RLOO",
    "ActorCritic",
    "DoubleQLearning",
    "ExpectedSarsa",
    "GradientBandit",
    "QLearning",
    "Reinforce",
    "Sarsa",
]
