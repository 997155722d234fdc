"""Chapter 2: bandits of ten arms."""

import itertools
import math
from typing import Any

import jax
import numpy as np

import rljax
from figures import common
from rljax import bandits, exploration

NUM_PULLS = 1000
REWARD, OPTIMAL = "expected reward", "share of optimal actions"
SHOWN = np.r_[:100, 109:NUM_PULLS:10]
"""The pulls in pictures and CSV files, from 0: the first hundred, then every tenth."""


def _play(agents: dict[str, Any], quick: bool, mean_loc: float = 0.0) -> dict[str, Any]:
    """Expected rewards [B, T] and optimal pulls [B, T] by name, on the same bandits."""
    settings = {name: [agent] for name, agent in agents.items()}
    curves, best = _compare(settings, 1000 if quick else 4000, NUM_PULLS, mean_loc)

    def per_pull(sums):
        return np.diff(sums[:, 0], axis=1, prepend=0)

    return {
        name: (best - per_pull(curve.expected_regret), per_pull(curve.optimal_pulls))
        for name, curve in curves.items()
    }


def _compare(
    settings: dict[str, Any], num_bandits: int, num_points: int, mean_loc: float = 0.0
) -> tuple[dict[str, bandits.BanditCurves], np.ndarray]:
    """Curves by name on the testbed, and the best arm's mean, [B, 1]."""
    curves, means = bandits.compare_bandits(
        settings,
        rljax.GaussianBandit(10, mean_loc=mean_loc, mean_scale=1.0, noise_scale=1.0),
        jax.random.key(0),
        num_bandits=num_bandits,
        num_pulls=NUM_PULLS,
        num_points=num_points,
    )
    return curves, means.max(1)[:, None]


def _greedy(epsilon: float, **fields: Any) -> rljax.QLearning:
    """An ε-greedy agent, with sample means unless the fields say otherwise."""
    return _valued(exploration.EpsilonGreedy(epsilon), **fields)


def _valued(rule: Any, **fields: Any) -> rljax.QLearning:
    """A rule with sample means unless the fields say otherwise."""
    settings: dict[str, Any] = {"step_size": None, "discount": 0.0} | fields
    return rljax.QLearning(exploration=rule, **settings)


def _gradient(step_size: float, **fields: Any) -> rljax.GradientBandit:
    """A gradient bandit, for the figures whose step sizes may be above 1.

    A temperature of 1/α with a step size of 1 acts like 1 with a step size of α.
    """
    rule = exploration.Softmax(1 / step_size)
    return rljax.GradientBandit(exploration=rule, step_size=1.0, discount=0.0, **fields)


def _panel(title: str, played: dict[str, Any], i: int) -> dict[str, Any]:
    """A panel with the curves of all rules: rewards (i = 0) or optimal pulls (1)."""
    means = [
        common.mean_curve(name, SHOWN + 1, samples[i][:, SHOWN])
        for name, samples in played.items()
    ]
    return {title: means}


def figure_2_2(*, quick: bool = False) -> common.Drawn:
    """ε-greedy with sample means, ε = 0, 0.01 and 0.1: reward and optimal actions."""
    played = _play({f"ε = {e:g}": _greedy(e) for e in (0.1, 0.01, 0.0)}, quick)
    panels = _panel(REWARD, played, 0) | _panel(OPTIMAL, played, 1)
    (often, optimal), (rarely, _), (never, _) = played.values()
    statements = [
        common.above(
            "ε = 0.1 earns more than the greedy rule over pulls 901 to 1000",
            (often - never)[:, -100:].mean(1),
        ),
        common.above(
            "ε = 0.01 earns more than the greedy rule over pulls 901 to 1000",
            (rarely - never)[:, -100:].mean(1),
        ),
        common.above(
            "ε = 0.1 earns more than 0.01 over the first 250 pulls",
            (often - rarely)[:, :250].mean(1),
        ),
        common.above(
            "ε = 0.1 takes the best arm in more than 75 % of pulls 901 to 1000",
            optimal[:, -100:].mean(1),
            0.75,
        ),
    ]
    return common.Drawn(panels, statements, common.plot(panels, "pulls", ""))


def figure_2_3(*, quick: bool = False) -> common.Drawn:
    """Optimistic initial values make a greedy rule explore, though only at first."""
    optimistic = _greedy(0.0, step_size=0.1, initial_value=5.0)
    realistic = _greedy(0.1, step_size=0.1)
    rules = {"greedy, Q₁ = 5": optimistic, "ε = 0.1, Q₁ = 0": realistic}
    played = _play(rules, quick)
    panels = _panel(OPTIMAL, played, 1)
    hopeful, sober = (samples[1] for samples in played.values())
    ahead = hopeful - sober
    fifties = ahead[:, 200:].reshape(len(ahead), -1, 50).mean(2)
    statements = [
        common.above("behind over pulls 12 to 100", -ahead[:, 11:100].mean(1)),
        common.above(
            "ahead from pull 201 on, even in the fifty pulls where it is least",
            fifties[:, fifties.mean(0).argmin()],
        ),
        common.above(
            "a spike at pull 11, the first after each arm was tried: more than at 10",
            hopeful[:, 10] - hopeful[:, 9],
        ),
        common.above(
            "disappointed at once: at pull 12 less than at 11",
            hopeful[:, 10] - hopeful[:, 11],
        ),
    ]
    picture = common.plot(panels, "pulls", "", width=6.5, ylim=(0, 1))
    return common.Drawn(panels, statements, picture)


def figure_2_4(*, quick: bool = False) -> common.Drawn:
    """UCB against ε-greedy; with c = 1 for exercise 2.8, on the spike at pull 11."""
    rules = {f"UCB, c = {c}": _valued(exploration.UCB(c)) for c in (2, 1)}
    played = _play(rules | {"ε = 0.1": _greedy(0.1)}, quick)
    panels = _panel(REWARD, played, 0)
    ucb, careless, greedy = (samples[0] for samples in played.values())
    # Of ten arms with r = μ + noise, both N(0, 1): E[μ | r] = r/2, and the largest r is
    # √2 · 1.53875, where the second factor is that of ten standard normal numbers.
    first_choice = 1.53875 / math.sqrt(2)
    statements = [
        common.above(
            "UCB with c = 2 earns more than ε = 0.1 over pulls 101 to 1000",
            (ucb - greedy)[:, 100:].mean(1),
        ),
        common.above(
            "but less over pulls 2 to 10, when it tries arms that it does not know",
            (greedy - ucb)[:, 1:10].mean(1),
        ),
        common.above(
            "and less over pulls 15 to 30, which the book does not say",
            (greedy - ucb)[:, 14:30].mean(1),
        ),
        common.covers(
            "spike: pull 11 is of the arm that paid best, of mean 1.53875/√2 = 1.088",
            ucb[:, 10],
            first_choice,
        ),
        common.above(
            "then that arm's bonus is the least: at pull 12 less than at 11",
            ucb[:, 10] - ucb[:, 11],
        ),
        common.above(
            "exercise 2.8: with c = 1 the fall from pull 11 to 12 is smaller",
            (ucb - careless)[:, 10] - (ucb - careless)[:, 11],
        ),
    ]
    picture = common.plot(panels, "pulls", "", width=6.5)
    return common.Drawn(panels, statements, picture)


def figure_2_5(*, quick: bool = False) -> common.Drawn:
    """Gradient bandits with and without a baseline where true means are near +4."""
    rules = {
        f"{word} baseline, α = {step_size}": rljax.GradientBandit(
            step_size=step_size, discount=0.0, baseline_step_size=beta
        )
        for word, beta in (("with", None), ("without", 0.0))
        for step_size in (0.1, 0.4)
    }
    played = _play(rules, quick, mean_loc=4.0)
    panels = _panel(OPTIMAL, played, 1)
    slow, fast, slow_bare, fast_bare = (samples[1] for samples in played.values())
    statements = [
        common.above(
            "α = 0.1: more optimal actions with the baseline",
            (slow - slow_bare).mean(1),
        ),
        common.above(
            "α = 0.4: more optimal actions with the baseline",
            (fast - fast_bare).mean(1),
        ),
        common.above(
            "with the baseline α = 0.4 is ahead of 0.1 over the first 50 pulls",
            (fast - slow)[:, :50].mean(1),
        ),
        common.above(
            "and α = 0.1 is over pulls 901 to 1000",
            (slow - fast)[:, -100:].mean(1),
        ),
        common.above(
            "without it α = 0.1 is ahead over pulls 901 to 1000",
            (slow_bare - fast_bare)[:, -100:].mean(1),
        ),
    ]
    picture = common.plot(panels, "pulls", "", width=6.5, ylim=(0, 1))
    picture.axes[0].legend(fontsize=8, ncols=2, loc="lower right")
    return common.Drawn(panels, statements, picture)


def figure_2_6(*, quick: bool = False) -> common.Drawn:
    """A parameter study: each rule's reward over 1000 pulls, by its one parameter."""
    rules: dict[str, tuple[Any, range]] = {
        "UCB: c": (lambda c: _valued(exploration.UCB(c)), range(-4, 3)),
        "optimistic greedy: Q₁": (
            lambda q: _greedy(0.0, step_size=0.1, initial_value=q),
            range(-2, 3),
        ),
        "gradient bandit: α": (_gradient, range(-5, 3)),
        "ε-greedy: ε": (_greedy, range(-7, -1)),
    }
    at = {name: 2.0 ** np.array(powers) for name, (_, powers) in rules.items()}
    settings = {name: [rules[name][0](float(x)) for x in at[name]] for name in rules}
    curves, best = _compare(settings, 1000 if quick else 4000, 1)
    earned = {
        name: best - curves[name].expected_regret[..., 0] / NUM_PULLS for name in at
    }
    panels = {REWARD: [common.mean_curve(name, at[name], earned[name]) for name in at]}
    tops, statements = {}, []
    for name, samples in earned.items():
        means = samples.mean(0)
        tops[name] = samples[:, means.argmax()]
        end = samples[:, 0] if means[0] > means[-1] else samples[:, -1]
        text = f"{name} = {at[name][means.argmax()]:g} earns more than both ends"
        statements.append(common.above(text, tops[name] - end))
    for first, second in itertools.pairwise(tops):
        text = f"at their best, {first.split(':')[0]} earns more than {second}"
        statements.append(common.above(text.split(":")[0], tops[first] - tops[second]))
    picture = common.plot(panels, "ε, α, c or Q₁", "", width=6.5)
    axes = picture.axes[0]
    axes.set_xscale("log", base=2)
    labels = [f"1/{2**-k}" if k < 0 else f"{2**k}" for k in range(-7, 3)]
    axes.set_xticks(2.0 ** np.arange(-7, 3), labels)
    return common.Drawn(panels, statements, picture)


FIGURES = [
    common.Figure("2.2", "ε-greedy rules on ten arms", figure_2_2),
    common.Figure("2.3", "optimistic initial values", figure_2_3),
    common.Figure("2.4", "upper confidence bounds", figure_2_4),
    common.Figure("2.5", "the gradient bandit's baseline", figure_2_5),
    common.Figure("2.6", "a parameter study of all rules", figure_2_6),
]
