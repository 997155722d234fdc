"""RLHF on small problems: learning with a KL penalty, compared with the exact optimum.

In the environment `TokenMDP`, short token sequences are written. `rewards` scores them,
`preferences` compares them in pairs, and `networks` reads them. `kl` is the penalty on
leaving a reference policy, and `optimum` the exact solution. DPO, GRPO, PPOKL and RLOO
are the agents.
"""

from rljax.rlhf import (
    groups,
    kl,
    losses,
    networks,
    optimum,
    preferences,
    rewards,
    sequences,
)
from rljax.rlhf.dpo import DPO
from rljax.rlhf.grpo import GRPO
from rljax.rlhf.ppo_kl import PPOKL
from rljax.rlhf.reference import ReferencePolicy, ReferenceState
from rljax.rlhf.rloo import RLOO
from rljax.rlhf.tokens import TokenMDP

__all__ = [
    "DPO",
    "GRPO",
    "PPOKL",
    "RLOO",
    "ReferencePolicy",
    "ReferenceState",
    "TokenMDP",
    "groups",
    "kl",
    "losses",
    "networks",
    "optimum",
    "preferences",
    "rewards",
    "sequences",
]
