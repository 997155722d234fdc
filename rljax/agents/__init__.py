"""Policy-gradient agents. None of them imports an environment."""

from rljax.agents.actor_critic import ActorCritic
from rljax.agents.base import AgentState, PolicyAgent
from rljax.agents.critic import ActorCriticAgent
from rljax.agents.ppo import PPO
from rljax.agents.reinforce import Reinforce

__all__ = [
    "PPO",
    "ActorCritic",
    "ActorCriticAgent",
    "AgentState",
    "PolicyAgent",
    "Reinforce",
]
