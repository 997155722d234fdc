"""Running normalisation: moments of what an agent has seen, as part of its state.

Observations are read as (x − mean) / σ and rewards are divided by the deviation of
discounted returns, both clipped to ±10. An update reads a rollout's observations with
the moments that the rollout acted with, and takes them in afterwards: so the policy
that is improved is the one that acted. It takes the rewards in first: the policy never
sees them, and the first update learns from rewards of the size of all later ones.
Evaluation, which never updates, changes nothing.

Source: Chan, Golub and LeVeque (1979), Updating formulae and a pairwise algorithm for
computing sample variances; for rewards, the rule of OpenAI Baselines' VecNormalize and
of Gymnasium's NormalizeReward.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax.types import Transition

LIMIT = 10.0
"""Of normalised numbers, in deviations."""
FLOOR = 1e-8
"""Is added to a variance."""


class Moments(NamedTuple):
    """Of all numbers so far; before the first one, mean 0 and variance 1 stand in.

    In float32 their number is exact up to 2²⁴ and rounded beyond. It can't overflow:
    after about 2²⁴ batches another one no longer changes it, and moves the moments by
    one part in 2²⁴ at most.
    """

    number: jax.Array
    """[] floating: how many."""
    mean: jax.Array
    """[...] floating."""
    variance: jax.Array
    """[...] floating: the mean square of the deviations from the mean."""

    def take_in(self, batch: jax.Array) -> "Moments":
        """The moments with a batch [T, N, …] more.

        w = n / (number + n),  δ = mean of the batch − mean
        mean ← mean + w δ,    variance ← (1 − w) variance + w (that of the batch)
                                         + w (1 − w) δ²
        """
        batch = batch.astype(self.mean.dtype)
        more = batch.shape[0] * batch.shape[1]
        number = self.number + more
        weight = more / number
        delta = jnp.mean(batch, (0, 1)) - self.mean
        mixed = self.variance + weight * (jnp.var(batch, (0, 1)) - self.variance)
        variance = mixed + weight * (1 - weight) * jnp.square(delta)
        return Moments(number, self.mean + weight * delta, variance)

    def normalised(self, x: jax.Array) -> jax.Array:
        """(x − mean) / σ within ±10, [...] or with more axes in front."""
        mean = jnp.broadcast_to(self.mean, x.shape)
        return self.scaled(x.astype(mean.dtype) - mean)

    def scaled(self, x: jax.Array) -> jax.Array:
        """x / σ within ±10, [...] or with more axes in front."""
        deviation = jnp.sqrt(self.variance + FLOOR)
        deviation = jnp.broadcast_to(deviation, x.shape)
        return jnp.clip(x.astype(deviation.dtype) / deviation, -LIMIT, LIMIT)


def no_moments(shape: tuple[int, ...], dtype: Any) -> Moments:
    """The moments of no numbers yet, of arrays [*shape], in float32 at least."""
    wide = jnp.finfo(dtype).bits >= 32
    zeros = jnp.zeros(shape, dtype if wide else jnp.float32)
    return Moments(jnp.zeros((), zeros.dtype), zeros, jnp.ones_like(zeros))


class Returns(NamedTuple):
    """Discounted returns so far, G_t = r_t + γ G_{t−1}, G = 0 where an episode starts.

    That is the past, discounted, and not the future: it is known at step t, and has the
    same variance where rewards come evenly.
    """

    moments: Moments
    """[] of all G_t."""
    last: jax.Array
    """[N] floating: G of the running episodes, 0 where one ended."""

    def take_in(
        self, trajectory: Transition, discount: Any, *, fresh_episodes: bool
    ) -> "Returns":
        """With the rewards [T, N] of a trajectory, which perhaps began with resets."""
        rewards = trajectory.reward.astype(self.last.dtype)
        done = trajectory.terminated | trajectory.truncated

        def step(last, x):
            reward, done = x
            now = reward + discount * last
            return jnp.where(done, 0, now), now

        first = jnp.zeros_like(self.last) if fresh_episodes else self.last
        last, returns = jax.lax.scan(step, first, (rewards, done))
        return Returns(self.moments.take_in(returns), last)


class Running(NamedTuple):
    """What an agent has seen; () for what it does not normalise."""

    observations: Any = ()
    """`Moments` of each floating array of an observation, () in the place of others."""
    returns: Any = ()
    """`Returns`."""

    def read(self, obs: Any) -> Any:
        """Observations with their floating arrays normalised, [...]."""
        if self.observations == ():
            return obs
        return jax.tree.map(
            lambda x, moments: x if moments == () else moments.normalised(x),
            obs,
            self.observations,
        )

    def normalised(self, trajectory: Transition) -> Transition:
        """A trajectory as the networks read it, with its rewards scaled."""
        if self.returns != ():
            reward = self.returns.moments.scaled(trajectory.reward)
            trajectory = trajectory._replace(reward=reward)
        obs, next_obs = self.read(trajectory.obs), self.read(trajectory.next_obs)
        return trajectory._replace(obs=obs, next_obs=next_obs)

    def take_in(
        self, trajectory: Transition, discount: Any, *, fresh_episodes: bool
    ) -> "Running":
        """After a trajectory [T, N], as the environment gave it."""
        observations, returns = self
        if observations != ():
            observations = jax.tree.map(
                lambda x, moments: () if moments == () else moments.take_in(x),
                trajectory.obs,
                observations,
            )
        if returns != ():
            returns = returns.take_in(
                trajectory, discount, fresh_episodes=fresh_episodes
            )
        return Running(observations, returns)


def start(obs: Any, num_envs: int | None, who: str) -> Running:
    """The moments before the first experience.

    Args:
      obs: an observation, of any values; None: they are not normalised.
      num_envs: N; None: rewards are not normalised.
      who: what messages call the agent.

    Raises:
      ValueError: none of an observation's arrays is floating.
    """

    def first(x):
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return no_moments(x.shape, x.dtype) if floating else ()

    observations = () if obs is None else jax.tree.map(first, obs)
    if obs is not None and not jax.tree.leaves(observations):
        raise ValueError(
            f"{who}.normalize_observations has nothing to normalise, as observations "
            "are choices or integers alone, which networks read as one-hot vectors or "
            "scaled by their bounds. Leave it False."
        )
    if num_envs is None:
        return Running(observations)
    moments = no_moments((), jnp.result_type(float))
    return Running(
        observations, Returns(moments, jnp.zeros((num_envs,), moments.mean.dtype))
    )
