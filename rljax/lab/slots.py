"""Strategies side by side on one bandit of five arms, and on 1,000 others.

No page and no clock is in here. A strategy's 1,000 pulls are played at once, by
`rljax.bandits.watch_bandit`, and a `Game` lets one see as many of them as were asked
for. So another setting shows at once what it would have brought from the first pull on.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rljax.envs.bandit import Bandit, BernoulliBandit, GaussianBandit
from rljax.tabular import GradientBandit, QLearning, TabularAgent, bandits, exploration

NUM_PULLS = 1000
NUM_OTHERS = 1000
"""Bandits over which the bands are."""
SEED_OF_OTHERS = 1
ARMS: dict[str, Bandit] = {"Gaussian": GaussianBandit(), "Bernoulli": BernoulliBandit()}
"""The kinds of arms; their means are drawn from the seed."""
GRADIENT_STEP = 0.1


class Settings(NamedTuple):
    """What can be changed; the other strategies are told what their theory asks for."""

    epsilon: float = 0.1
    temperature: float = 0.5
    c: float = 2.0


class Strategy(NamedTuple):
    """How to build an agent for a kind of arms, and how to name its setting."""

    build: Callable[[str, Settings], TabularAgent]
    label: Callable[[str, Settings], str]
    setting: str | None = None
    """The one of the settings that it depends on."""
    estimates: bool = True
    """Whether it estimates the arms' means."""


def _learner(rule: Any) -> TabularAgent:
    """Sample averages: Q += (r − Q)/N."""
    return QLearning(exploration=rule, step_size=None, discount=0.0)


def _kl_ucb(arms: str) -> exploration.KLUCB:
    env = ARMS[arms]
    return exploration.KLUCB(
        env.noise_scale if isinstance(env, GaussianBandit) else None
    )


def _thompson(arms: str) -> Any:
    """With the distribution from which the means are drawn as its prior."""
    env = ARMS[arms]
    if not isinstance(env, GaussianBandit):
        return exploration.ThompsonBernoulli()
    return exploration.ThompsonGaussian(env.mean_loc, env.mean_scale, env.noise_scale)


def _scale(arms: str) -> float:
    """The length of an interval that holds all rewards, or most of them."""
    env = ARMS[arms]
    if not isinstance(env, GaussianBandit):
        return 1.0
    return 2 * (env.mean_scale + env.noise_scale)


def _told(gaussian: str, bernoulli: str) -> Callable[[str, Settings], str]:
    return lambda arms, _: gaussian if arms == "Gaussian" else bernoulli


STRATEGIES: dict[str, Strategy] = {
    "ε-greedy": Strategy(
        lambda _, s: _learner(exploration.EpsilonGreedy(s.epsilon)),
        lambda _, s: f"ε = {s.epsilon:g}",
        "epsilon",
    ),
    "softmax": Strategy(
        lambda _, s: _learner(exploration.Softmax(s.temperature)),
        lambda _, s: f"τ = {s.temperature:g}",
        "temperature",
    ),
    "UCB": Strategy(
        lambda _, s: _learner(exploration.UCB(s.c)), lambda _, s: f"c = {s.c:g}", "c"
    ),
    "UCB1": Strategy(
        lambda arms, _: _learner(exploration.UCB1(_scale(arms))),
        lambda arms, _: f"scale {_scale(arms):g}",
    ),
    "KL-UCB": Strategy(
        lambda arms, _: _learner(_kl_ucb(arms)), _told("knows σ", "Bernoulli")
    ),
    "Thompson": Strategy(
        lambda arms, _: _learner(_thompson(arms)),
        _told("knows the prior", "uniform prior"),
    ),
    "gradient": Strategy(
        lambda *_: GradientBandit(step_size=GRADIENT_STEP, discount=0.0),
        lambda *_: f"α = {GRADIENT_STEP:g}",
        estimates=False,
    ),
}


class Play(NamedTuple):
    """A strategy's pulls on one bandit, and what it knew after each: NumPy arrays."""

    actions: np.ndarray
    """[NUM_PULLS] the arm pulled."""
    rewards: np.ndarray
    """[NUM_PULLS]."""
    regret: np.ndarray
    """[NUM_PULLS] expected regret up to each pull."""
    optimal: np.ndarray
    """[NUM_PULLS] bool: whether a best arm was pulled."""
    means: np.ndarray
    """[A] the arms' true means."""
    slope: np.ndarray
    """[] Lai and Robbins' least slope of regret over ln t."""
    estimates: np.ndarray
    """[NUM_PULLS, A] Q after each pull, or preferences; see `Strategy.estimates`."""
    counts: np.ndarray
    """[NUM_PULLS, A] how often each arm had been pulled after each pull."""


@functools.lru_cache(maxsize=512)
def _watch(arms: str, agent: TabularAgent, seed: int) -> Play:
    env, key = ARMS[arms], jax.random.key(seed)
    watched = bandits.watch_bandit(agent, env, key, num_pulls=NUM_PULLS)
    pulls, means = watched.pulls, watched.means[0]
    noise = env.noise_scale if isinstance(env, GaussianBandit) else None
    fields: dict[str, Any] = {
        "actions": pulls.actions,
        "rewards": pulls.rewards,
        "regret": pulls.expected_regret,
        "optimal": pulls.optimal,
        "means": means,
        "slope": bandits.lai_robbins(means, noise_scale=noise),
        "estimates": watched.agent_states.q_values[:, 0],
        "counts": watched.agent_states.counts[:, 0],
    }
    return Play(**jax.device_get(fields))


def watch(arms: str, name: str, seed: int, settings: Settings) -> Play:
    """All pulls of a strategy on the bandit of a seed. Keeps the last few hundred."""
    return _watch(arms, STRATEGIES[name].build(arms, settings), seed)


class Band(NamedTuple):
    """Expected regret of a strategy over `NUM_OTHERS` bandits; NumPy arrays."""

    pulls: np.ndarray
    """[K] pulls done."""
    low: np.ndarray
    """[K] the quantile of 5 %."""
    mean: np.ndarray
    """[K]."""
    high: np.ndarray
    """[K] the quantile of 95 %."""
    error: float
    """Half of the 95 % interval of the mean after all pulls."""


def others(arms: str, settings: Settings) -> dict[str, Band]:
    """The bands of all strategies, on the same bandits."""
    agents = {name: [s.build(arms, settings)] for name, s in STRATEGIES.items()}
    curves, _ = bandits.compare_bandits(
        agents,
        ARMS[arms],
        jax.random.key(SEED_OF_OTHERS),
        num_bandits=NUM_OTHERS,
        num_pulls=NUM_PULLS,
    )
    return {name: _band(curve) for name, curve in curves.items()}


def _band(curve: bandits.BanditCurves) -> Band:
    regret = curve.expected_regret[:, 0].astype(float)
    low, high = np.quantile(regret, [0.05, 0.95], axis=0)
    error = 1.96 * regret[:, -1].std(ddof=1) / np.sqrt(len(regret))
    return Band(curve.pulls, low, regret.mean(0), high, float(error))


class Game:
    """One bandit, and the strategies on it that are in the game.

    Args:
      arms: a name in `ARMS`.
      seed: of the key, which draws the bandit, its rewards and all decisions.
      settings: of the strategies.
    """

    def __init__(
        self, arms: str = "Gaussian", seed: int = 0, settings: Settings | None = None
    ):
        self.arms, self.seed = arms, seed
        self.settings = Settings() if settings is None else settings
        self.num_pulls = 0
        self.plays: dict[str, Play] = {}

    @property
    def missing(self) -> list[str]:
        """The strategies that are not in the game yet."""
        return [name for name in STRATEGIES if name not in self.plays]

    def include(self, *names: str) -> None:
        """Plays strategies, all if none is named; the first time, each compiles."""
        for name in names or self.missing:
            self.plays[name] = watch(self.arms, name, self.seed, self.settings)

    def change(self, settings: Settings) -> None:
        """Plays again from the first pull, up to where the game stands."""
        self.settings = settings
        for name in self.plays:
            self.include(name)

    def advance(self, num_pulls: int) -> None:
        """Shows so many more pulls, up to the last one."""
        self.num_pulls = min(self.num_pulls + num_pulls, NUM_PULLS)

    @property
    def finished(self) -> bool:
        """Whether all pulls are done."""
        return self.num_pulls == NUM_PULLS

    @property
    def means(self) -> np.ndarray | None:
        """[A] the arms' true means; None as long as no strategy is in the game."""
        return next(iter(self.plays.values())).means if self.plays else None

    def bound(self) -> np.ndarray | None:
        """[NUM_PULLS] Lai and Robbins' slope times ln t, for regret as t grows."""
        if not self.plays:
            return None
        slope = next(iter(self.plays.values())).slope
        return float(slope) * np.log(np.arange(1, NUM_PULLS + 1))

    def estimates(self, name: str) -> np.ndarray:
        """[A] the estimates of a strategy now; NaN where it has none."""
        play, strategy = self.plays[name], STRATEGIES[name]
        if not strategy.estimates or not self.num_pulls:
            return np.full(len(play.means), np.nan)
        known = play.counts[self.num_pulls - 1] > 0
        return np.where(known, play.estimates[self.num_pulls - 1], np.nan)

    def counts(self, name: str) -> np.ndarray:
        """[A] how often a strategy has pulled each arm."""
        counts = self.plays[name].counts
        return counts[self.num_pulls - 1] if self.num_pulls else 0 * counts[0]

    def last(self, name: str) -> tuple[int, float] | None:
        """The arm that a strategy pulled last and its reward; None before the first."""
        if not self.num_pulls:
            return None
        play, at = self.plays[name], self.num_pulls - 1
        return int(play.actions[at]), float(play.rewards[at])

    def regret(self, name: str) -> float:
        """The expected regret of a strategy so far."""
        play = self.plays[name]
        return float(play.regret[self.num_pulls - 1]) if self.num_pulls else 0.0

    def total_reward(self, name: str) -> float:
        """The rewards of a strategy so far."""
        return float(self.plays[name].rewards[: self.num_pulls].sum(dtype=float))

    def share_of_best(self, name: str) -> float | None:
        """The share of a strategy's pulls that were of a best arm; None before any."""
        if not self.num_pulls:
            return None
        return float(self.plays[name].optimal[: self.num_pulls].mean())
