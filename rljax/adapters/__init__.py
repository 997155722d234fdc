"""Other libraries' environments as ours, and ours as theirs.

Nothing of another library is imported before it is needed: each function names in its
error what to install.
"""

from rljax.adapters.brax_envs import BraxEnv, from_brax
from rljax.adapters.exports import to_gymnasium, to_gymnasium_vector
from rljax.adapters.gymnax_envs import GymnaxEnv, from_gymnax
from rljax.adapters.host import HostEnv, from_gymnasium
from rljax.adapters.jumanji_envs import JumanjiEnv, from_jumanji

__all__ = [
    "BraxEnv",
    "GymnaxEnv",
    "HostEnv",
    "JumanjiEnv",
    "from_brax",
    "from_gymnasium",
    "from_gymnax",
    "from_jumanji",
    "to_gymnasium",
    "to_gymnasium_vector",
]
