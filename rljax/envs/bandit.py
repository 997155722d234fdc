"""Multi-armed bandits: one state, episodes that never end, and unknown rewards."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, random, spaces, struct
from rljax.envs import pictures
from rljax.types import Env, TimeStep


class BanditState(NamedTuple):
    """The current state of the arms."""

    means: jax.Array
    """[A] floating: each arm's expected reward."""


class Bandit(Env):
    """The base of all bandits: one state, arms, and means that may drift. Abstract."""

    num_arms: int
    drift_scale: Any
    means: Any

    @property
    def observation_space(self) -> spaces.Discrete:
        """The one observation, 0."""
        return spaces.Discrete(1)

    @property
    def action_space(self) -> spaces.Discrete:
        """One action for each arm."""
        return spaces.Discrete(self.num_arms)

    @property
    def pays_unit_rewards(self) -> bool:
        """False if rewards are known to be others than in [0, 1]. Default: True."""
        return True

    def reset(self, key: jax.Array) -> tuple[BanditState, jax.Array]:
        """Draws the arms' means, unless `means` gives them."""
        means = self._draw_means(key) if self.means is None else self.means
        means = jnp.asarray(means, jnp.result_type(float))
        if means.ndim != 1:
            raise ValueError(
                f"{type(self).__name__} must have scalar settings and means [A] here, "
                f"got means of shape {means.shape}. vmap over several bandits."
            )
        return BanditState(means), jnp.zeros((), jnp.int32)

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """Draws the noise of each reward, and of each mean's step if means drift."""
        key_reward, key_drift = jax.random.split(key)
        drift = ()
        if self.drift_scale is not None:
            drift = random.normal(key_drift, (*shape, self.num_arms))
        return self._draw_rewards(key_reward, shape), drift

    def advance(
        self, state: BanditState, action: jax.Array, noise: Any
    ) -> tuple[BanditState, TimeStep]:
        """Pulls an arm."""
        reward_noise, drift = noise
        action = spaces.check_element(self.action_space, action, "the bandit's action")
        reward = self._reward(state.means[action], reward_noise)
        if self.drift_scale is not None:
            means = self._drifted(state.means + self.drift_scale * drift)
            state = BanditState(means)
        never = jnp.zeros((), bool)
        return state, TimeStep(jnp.zeros((), jnp.int32), reward, never, never)

    def render(self, state: BanditState, *, size: int = 400) -> np.ndarray:
        """A bar for each arm's true mean, [0.6 · size, size, 3] uint8.

        The best arms are gold. A whisker is a standard deviation of the rewards to
        either side, where all arms have the same. Which arm was pulled is not part of
        the state.

        Raises:
          TypeError, ValueError: `state` is traced, batched, not finite or another
            environment's; or `size` is not from 16 to 4096.
        """
        size = pictures.side(size)
        checks.instance("state", state, BanditState, "env.reset(key)[0]")
        means = pictures.concrete("state.means", state.means)
        if means.shape != (self.num_arms,) or not np.isfinite(means).all():
            raise ValueError(
                f"state.means must be [{self.num_arms}] finite numbers, as the picture "
                f"is of one bandit, has shape {means.shape}."
            )
        limits, spread = self._limits(means)
        return pictures.bandit(means, spread=spread, limits=limits, size=size)

    def _check_arms(self, minimum: float, maximum: float) -> None:
        checks.ints(self, "num_arms", minimum=1)
        checks.reals(self, "drift_scale", minimum=0.0, optional=True)
        if self.means is None:
            return
        if isinstance(self.means, list | tuple):
            object.__setattr__(self, "means", np.asarray(self.means, float))
        checks.reals(self, "means", minimum=minimum, maximum=maximum)
        if np.shape(self.means)[-1:] != (self.num_arms,):
            raise ValueError(
                f"{type(self).__name__}.means must have one entry for each of num_arms "
                f"= {self.num_arms}, got shape {np.shape(self.means)}."
            )

    @abc.abstractmethod
    def _draw_means(self, key: jax.Array) -> jax.Array:
        """Draws the arms' means, [A]."""

    @abc.abstractmethod
    def _draw_rewards(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draws the noise of each reward, [*shape]."""

    @abc.abstractmethod
    def _reward(self, mean: jax.Array, noise: jax.Array) -> jax.Array:
        """The reward of an arm with this mean, [], for one draw of the noise."""

    def _drifted(self, means: jax.Array) -> jax.Array:
        return means

    def _limits(self, means: np.ndarray) -> tuple[tuple[float, float], float]:
        """The range of numbers that a picture shows, and the rewards' σ or 0."""
        del means
        return (0.0, 1.0), 0.0


@struct.dataclass
class GaussianBandit(Bandit):
    """Arms whose rewards are normal: r ~ N(μ_a, noise_scale²).

    `reset` draws the means μ_a ~ N(mean_loc, mean_scale²), unless `means` gives them.
    With `drift_scale` = d the mean of every arm takes a random-walk step after each
    pull, μ_a ← μ_a + N(0, d²). The observation is always 0. No episode ends, and an
    action has no influence on later rewards, so learn with a discount of 0.

    Raises:
      TypeError, ValueError: a field has the wrong type or is out of its range.

    Source: Sutton and Barto (2018), §2.3; exercise 2.5 for means that drift.
    """

    num_arms: int = struct.static(default=5)
    """A, the number of arms, at least 1."""
    mean_loc: float = 1.0
    """Mean of the arms' means."""
    mean_scale: float = 0.5
    """Standard deviation of the arms' means, 0 or more."""
    noise_scale: float = 0.3
    """Standard deviation of a reward about its arm's mean, 0 or more."""
    drift_scale: float | None = None
    """Standard deviation of the means' steps, 0 or more; None: the means are fixed."""
    means: Any = None
    """[A] the arms' means; None: drawn at each reset."""

    def __post_init__(self):
        self._check_arms(-np.inf, np.inf)
        checks.reals(self, "mean_loc")
        checks.reals(self, "mean_scale", "noise_scale", minimum=0.0)

    @property
    def pays_unit_rewards(self) -> bool:
        """Whether five standard deviations about the means stay in [0, 1].

        Means that drift do not; of traced settings nothing is known, and it is True.
        """
        settings = (self.means, self.mean_loc, self.mean_scale, self.noise_scale)
        if any(isinstance(setting, Tracer) for setting in settings):
            return True
        means, spread = self.means, self.noise_scale
        if means is None:
            means, spread = self.mean_loc, np.hypot(self.mean_scale, spread)
        far = 5 * np.max(spread)
        inside = np.min(means) >= far and np.max(means) <= 1 - far
        return bool(inside) and self.drift_scale is None

    def _draw_means(self, key: jax.Array) -> jax.Array:
        return self.mean_loc + self.mean_scale * random.normal(key, (self.num_arms,))

    def _draw_rewards(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return random.normal(key, shape)

    def _reward(self, mean: jax.Array, noise: jax.Array) -> jax.Array:
        return mean + self.noise_scale * noise

    def _limits(self, means: np.ndarray) -> tuple[tuple[float, float], float]:
        loc, scale, noise = (
            pictures.number(f"GaussianBandit.{name}", getattr(self, name))
            for name in ("mean_loc", "mean_scale", "noise_scale")
        )
        # Of what the arms may be at first, so that the picture of one that drifts
        # stands still as long as its means are in that range.
        likely = np.array([loc - 2 * scale, loc + 2 * scale])
        if self.means is not None:
            likely = pictures.concrete("GaussianBandit.means", self.means)
        low = min(means.min(), likely.min()) - noise
        high = max(means.max(), likely.max()) + noise
        low, high = min(low, 0.0), max(high, 0.0)
        return (low, high if high > low else 1.0), noise


@struct.dataclass
class BernoulliBandit(Bandit):
    """Arms that pay 1 with probability μ_a, else 0.

    `reset` draws the means μ_a ~ U[0, 1), unless `means` gives them. With `drift_scale`
    = d the mean of every arm moves after each pull, μ_a ← clip(μ_a + N(0, d²), 0, 1).
    The observation is always 0. No episode ends, and an action has no influence on
    later rewards, so learn with a discount of 0.

    Raises:
      TypeError, ValueError: a field has the wrong type or is out of its range.

    Source: Thompson (1933); Lattimore and Szepesvári (2020), Bandit Algorithms, §4.
    """

    num_arms: int = struct.static(default=5)
    """A, the number of arms, at least 1."""
    drift_scale: float | None = None
    """Standard deviation of the means' steps, 0 or more; None: the means are fixed."""
    means: Any = None
    """[A] the arms' means in [0, 1]; None: drawn at each reset."""

    def __post_init__(self):
        self._check_arms(0.0, 1.0)

    def _draw_means(self, key: jax.Array) -> jax.Array:
        return random.uniform(key, (self.num_arms,))

    def _draw_rewards(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return random.uniform(key, shape)

    def _reward(self, mean: jax.Array, noise: jax.Array) -> jax.Array:
        return (noise < mean).astype(mean.dtype)

    def _drifted(self, means: jax.Array) -> jax.Array:
        return jnp.clip(means, 0.0, 1.0)
