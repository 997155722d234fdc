"""Large unclipped updates of the policy collapse, and PPO's clip prevents it."""

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from claimed.common import Claim, Row, shares_of
from rljax.experiment import statistics

NEVER = 1e9
"""An ε that no ratio reaches."""


def measure(*, quick: bool = False, epsilon: float = 0.2) -> list[Row]:
    """Trains PPO on CartPole-v1 with and without its clip, the same seeds.

    The norm of the gradient is not clipped either. A run has collapsed if the last
    fifth of its updates returns less than 100 of 500: it fell, or it never rose.

    Args:
      quick: whether 8 seeds, 60 updates and one case will do, of 16, 100 and six.
      epsilon: of the clip.
    """
    num_seeds, num_updates = (8, 60) if quick else (16, 100)
    env = rljax.make("CartPole-v1")
    keys = jax.random.split(jax.random.key(0), num_seeds)
    rows = []
    for num_epochs in (10,) if quick else (4, 10):

        @jax.jit
        def train(rate, clip, num_epochs=num_epochs):
            agent = rljax.PPO(
                learning_rate=rate,
                num_epochs=num_epochs,
                clip_epsilon=clip,
                max_grad_norm=1e9,
            )
            return jax.vmap(
                lambda key: rljax.train(agent, env, key, num_updates=num_updates)[1]
            )(keys)

        for rate in (5e-3,) if quick else (5e-4, 2.5e-3, 1e-2):
            runs = [train(rate, jnp.float32(clip)) for clip in (NEVER, epsilon)]
            lost = [collapsed(run) for run in runs]
            kl = [float(run.agent["approx_kl"].mean()) for run in runs]
            case = (
                f"{num_epochs} epochs, step size {rate:g}: {lost[0].mean():.2f} − "
                f"{lost[1].mean():.2f} (KL of an update {kl[0]:.3f}, {kl[1]:.3f})"
            )
            rows.append(shares_of(case, lost[0], lost[1]))
    return rows


def collapsed(metrics: rljax.Metrics) -> np.ndarray:
    """[num_seeds] whether the last two of ten windows return less than 100."""
    _, returns = statistics.windowed_episode_returns(metrics, 10)
    return returns[:, -2:].mean(axis=1) < 100


CLAIM = Claim(
    "clip",
    "Large unclipped updates of the policy collapse, and PPO's clip prevents it.",
    "share of runs that collapse without the clip less that with it",
    "more than 0, PPO on CartPole-v1",
    measure,
)
