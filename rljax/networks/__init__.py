"""Networks as pairs of functions, and the seam for anybody else's.

An agent's `network` is any hashable object with `init(key, obs) -> params` and
`apply(params, obs) -> output`: a flax module is one as it stands. The observation is a
single one, without a batch axis; agents vmap `apply`. What the output must be, the
agent says. Without a network of the user's, agents use the perceptrons of this package,
on what an `encoder` makes of the observation if there is one, such as a `CNN`.
"""

from rljax.networks.convolution import CNN, Convolution
from rljax.networks.interface import (
    Network,
    SizedNetwork,
    as_network,
    example,
    init_encoders,
    init_network,
)
from rljax.networks.perceptrons import (
    ACTIVATIONS,
    INITIALIZATIONS,
    ActorCriticParams,
    Dense,
    actor_critic_apply,
    actor_critic_init,
    he_normal,
    mlp_apply,
    mlp_init,
    orthogonal,
    orthonormal_columns,
)
from rljax.networks.reading import (
    Encoded,
    LogScaled,
    Reader,
    Reading,
    opened,
    reading_of,
    with_log_scale,
)

__all__ = [
    "ACTIVATIONS",
    "CNN",
    "INITIALIZATIONS",
    "ActorCriticParams",
    "Convolution",
    "Dense",
    "Encoded",
    "LogScaled",
    "Network",
    "Reader",
    "Reading",
    "SizedNetwork",
    "actor_critic_apply",
    "actor_critic_init",
    "as_network",
    "example",
    "he_normal",
    "init_encoders",
    "init_network",
    "mlp_apply",
    "mlp_init",
    "opened",
    "orthogonal",
    "orthonormal_columns",
    "reading_of",
    "with_log_scale",
]
