"""Multi-armed bandits: one state, no end, rewards unknown at first."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import random, spaces, struct
from rljax.types import TimeStep


class BanditState(NamedTuple):
    """The arms as they are now."""

    means: jax.Array
    """[A] floating: each arm's expected reward."""


class _Bandit(abc.ABC):
    """What all bandits share: one state, arms, and means that may drift. Abstract."""

    num_arms: int
    drift_scale: Any
    means: Any

    @property
    def observation_space(self) -> spaces.Discrete:
        """One state."""
        return spaces.Discrete(1)

    @property
    def action_space(self) -> spaces.Discrete:
        """The arms."""
        return spaces.Discrete(self.num_arms)

    def reset(self, key: jax.Array) -> tuple[BanditState, jax.Array]:
        """Draws a bandit, unless `means` are given."""
        means = self._draw_means(key) if self.means is None else self.means
        means = jnp.asarray(means, jnp.result_type(float))
        if means.ndim != 1:
            raise ValueError(
                f"{type(self).__name__} must have scalar settings and means [A] here, "
                f"got means of shape {means.shape}. vmap over several bandits."
            )
        return BanditState(means), jnp.zeros((), jnp.int32)

    def step(
        self, state: BanditState, action: jax.Array, key: jax.Array
    ) -> tuple[BanditState, TimeStep]:
        """Pulls an arm."""
        return self.advance(state, action, self.draw((), key))

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> Any:
        """A word for each reward, and a normal one for each arm if they drift."""
        key_reward, key_drift = jax.random.split(key)
        drift = ()
        if self.drift_scale is not None:
            drift = random.normal(key_drift, (*shape, self.num_arms))
        return self._draw_rewards(key_reward, shape), drift

    def advance(
        self, state: BanditState, action: jax.Array, noise: Any
    ) -> tuple[BanditState, TimeStep]:
        """`step` with noise drawn before."""
        reward_noise, drift = noise
        action = spaces.check_element(self.action_space, action, "the bandit's action")
        reward = self._reward(state.means[action], reward_noise)
        if self.drift_scale is not None:
            means = self._drifted(state.means + self.drift_scale * drift)
            state = BanditState(means)
        never = jnp.zeros((), bool)
        return state, TimeStep(jnp.zeros((), jnp.int32), reward, never, never)

    def _check_arms(self, minimum: float, maximum: float) -> None:
        struct.check_ints(self, "num_arms", minimum=1)
        struct.check_reals(self, "drift_scale", minimum=0.0, optional=True)
        if self.means is None:
            return
        if isinstance(self.means, list | tuple):
            object.__setattr__(self, "means", np.asarray(self.means, float))
        struct.check_reals(self, "means", minimum=minimum, maximum=maximum)
        if np.shape(self.means)[-1:] != (self.num_arms,):
            raise ValueError(
                f"{type(self).__name__}.means must have one entry for each of num_arms "
                f"= {self.num_arms}, got shape {np.shape(self.means)}."
            )

    @abc.abstractmethod
    def _draw_means(self, key: jax.Array) -> jax.Array:
        """The arms' means, [A]."""

    @abc.abstractmethod
    def _draw_rewards(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """A word for each reward, [*shape]."""

    @abc.abstractmethod
    def _reward(self, mean: jax.Array, noise: jax.Array) -> jax.Array:
        """What an arm pays, []."""

    def _drifted(self, means: jax.Array) -> jax.Array:
        return means


@struct.dataclass
class GaussianBandit(_Bandit):
    """Arms whose rewards are normal: r ~ N(μ_a, noise_scale²).

    `reset` draws a new bandit, μ_a ~ N(mean_loc, mean_scale²), or takes `means` as they
    are. With `drift_scale` = d every arm's mean then takes a step of a random walk
    after each pull, μ_a ← μ_a + N(0, d²). The observation is always 0, the one state;
    no episode ends, so learn with a discount of 0.

    Raises:
      TypeError, ValueError: a field is out of its range.

    Source: Sutton and Barto (2018), §2.3; the drifting one, exercise 2.5.
    """

    num_arms: int = struct.static(default=5)
    """A, at least 1."""
    mean_loc: float = 1.0
    """Mean of the arms' means."""
    mean_scale: float = 0.5
    """Standard deviation of the arms' means, 0 or more."""
    noise_scale: float = 0.3
    """Standard deviation of a reward about its arm's mean, 0 or more."""
    drift_scale: float | None = None
    """Standard deviation of the means' steps, 0 or more; None: they stay."""
    means: Any = None
    """[A] the arms' means; None: drawn at each reset."""

    def __post_init__(self):
        self._check_arms(-np.inf, np.inf)
        struct.check_reals(self, "mean_loc")
        struct.check_reals(self, "mean_scale", "noise_scale", minimum=0.0)

    def _draw_means(self, key: jax.Array) -> jax.Array:
        return self.mean_loc + self.mean_scale * random.normal(key, (self.num_arms,))

    def _draw_rewards(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return random.normal(key, shape)

    def _reward(self, mean: jax.Array, noise: jax.Array) -> jax.Array:
        return mean + self.noise_scale * noise


@struct.dataclass
class BernoulliBandit(_Bandit):
    """Arms that pay 1 with probability μ_a, else 0.

    `reset` draws a new bandit, μ_a ~ U[0, 1), or takes `means` as they are. With
    `drift_scale` = d, μ_a ← clip(μ_a + N(0, d²), 0, 1) after each pull. The observation
    is always 0, the one state; no episode ends, so learn with a discount of 0.

    Raises:
      TypeError, ValueError: a field is out of its range.

    Source: Thompson (1933); Lattimore and Szepesvári (2020), Bandit Algorithms, §4.
    """

    num_arms: int = struct.static(default=5)
    """A, at least 1."""
    drift_scale: float | None = None
    """Standard deviation of the means' steps, 0 or more; None: they stay."""
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
