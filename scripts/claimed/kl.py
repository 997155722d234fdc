"""The KL penalty holds the policy near the reference."""

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from claimed.common import Claim, Row, difference_of
from rljax.rlhf import networks, optimum, rewards

PRICES = (0.05, 0.2, 1.0, 5.0)


def measure(*, quick: bool = False, factor: float = 1.0) -> list[Row]:
    """Trains RLOO at rising prices of KL on a problem whose optimum is known.

    Args:
      quick: whether 3 seeds and 150 updates will do, of 10 and 400.
      factor: of all prices; 0 takes the penalty away.
    """
    num_seeds, num_updates = (3, 150) if quick else (10, 400)
    reward = rewards.BigramReward.random(8, 4, jax.random.key(0))
    env = rljax.TokenMDP(reward, vocabulary_size=8, horizon=4)

    def at_the_end(price, key):
        agent = rljax.RLOO(
            network=networks.Table(8, 4),
            kl_coef=factor * price,
            anneal_updates=num_updates,
        )
        _, metrics = rljax.train(
            agent, env, key, num_updates=num_updates, measure=optimum.measure
        )
        return metrics.agent["exact_kl"][-1]

    over_seeds = jax.vmap(at_the_end, (None, 0))
    # Each price has seeds of its own, so that without a penalty the prices don't tie.
    keys = jax.random.split(jax.random.key(1), (len(PRICES), num_seeds))
    found = np.asarray(jax.jit(jax.vmap(over_seeds))(jnp.array(PRICES), keys))
    best = [_best(env, price) for price in PRICES]
    rows = []
    for i in range(len(PRICES) - 1):
        case = (
            f"β = {PRICES[i]:g} less β = {PRICES[i + 1]:g}: {found[i].mean():.2f} − "
            f"{found[i + 1].mean():.2f} (optimum {best[i]:.2f} − {best[i + 1]:.2f})"
        )
        rows.append(difference_of(case, found[i], found[i + 1]))
    return rows


def _best(env, price):
    """KL(π*‖π_ref), with the uniform reference that an untrained table is."""
    texts = env.sequence_rewards()
    uniform = jnp.full_like(texts, -4 * jnp.log(8.0))
    log_probs = optimum.optimal_log_probs(uniform, texts, price)
    return float(optimum.sequence_objective(log_probs, uniform, texts, price).kl)


CLAIM = Claim(
    "kl",
    "The KL penalty holds the policy near the reference.",
    "fall of KL(π‖π_ref) after training from one price β to the next, in nats",
    "more than 0 at every step, 4,096 texts of 4 tokens, RLOO",
    measure,
)
