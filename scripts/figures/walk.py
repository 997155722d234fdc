"""Random walks: prediction by TD(0), n-step TD, the offline λ-return and TD(λ)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from figures import common
from rljax import exploration, parallel, planning, prediction, rollout

STEP_SIZES = np.r_[0, 0.02, 0.05, 0.1:0.55:0.05, 0.6:1.05:0.1]
"""α of figures 7.2, 12.3 and 12.6."""
NUM_STEPS = tuple(2**i for i in range(10))
LAMBDAS = (0.0, 0.4, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
TD_STEP_SIZES, MC_STEP_SIZES = (0.05, 0.1, 0.15), (0.01, 0.02, 0.03, 0.04)
"""α of figure 6.2."""
EPISODES = np.r_[1:20, 20:101:5]
"""After how many episodes figure 6.2 has the batch of them learned from."""
WORST = 1.0
"""Errors above it count as it: some values grow without bound."""


def _walk(num_states: int, left_reward: float) -> rljax.MDP:
    """States 0 to N+1 in a row, both ends terminal; +1 at the right end.

    The actions lead left and right, so that a policy that takes either with
    probability ½ walks as in the book.
    """
    states = np.arange(num_states + 2)
    next_states = np.stack([states - 1, states + 1], axis=1).clip(0, num_states + 1)
    rewards = np.zeros(next_states.shape)
    rewards[1, 0], rewards[num_states, 1] = left_reward, 1
    one_hot = jnp.eye(num_states + 2)
    return rljax.MDP(
        one_hot[next_states],
        jnp.asarray(rewards),
        terminal=jnp.asarray((states == 0) | (states == num_states + 1)),
        initial=one_hot[num_states // 2 + 1],
    )


def _exact(walk: rljax.MDP) -> jax.Array:
    either = jnp.full((walk.num_states, 2), 0.5)
    return planning.policy_evaluation(walk, either, 1.0).values


def _watch(
    walk: rljax.MDP, num_runs: int, num_episodes: int, length: int
) -> tuple[rljax.Transition, jax.Array]:
    """Walks [R, T] of E episodes or more, and the steps that end these, [R, E]."""
    env = rljax.FiniteMDP(walk)
    agent = rljax.QLearning(exploration=exploration.EpsilonGreedy(1.0))

    def watch(key):
        key_init, key_start, key = jax.random.split(key, 3)
        start = rollout.start(env, key_start)
        state = agent.init(key_init, env)
        walked = rollout.unroll(agent, state, env, start, key, length=length)[1]
        return walked, jnp.nonzero(walked.terminated, size=num_episodes)[0]

    keys = jax.random.split(jax.random.key(0), num_runs)
    walked, ends = parallel.map_seeds(watch)(keys)
    last = int(ends.max())
    if (np.diff(ends, axis=1) <= 0).any():
        raise ValueError(f"{length} steps are too few for {num_episodes} episodes.")
    return jax.tree.map(lambda x: x[:, : last + 1], walked), ends


def _n_step(values: Any, walked: Any, num_steps: Any, **settings: Any) -> Any:
    return prediction.n_step_td(values, walked, num_steps=num_steps, **settings)


def _td_lambda(values: Any, walked: Any, lambda_: Any, **settings: Any) -> Any:
    return prediction.td_lambda(values, walked, lambda_=lambda_, **settings)


def _true_online(values: Any, walked: Any, lambda_: Any, **settings: Any) -> Any:
    return _td_lambda(values, walked, lambda_, traces="dutch", **settings)


def _offline(values: Any, walked: Any, lambda_: Any, **settings: Any) -> Any:
    return prediction.offline_lambda(values, walked, lambda_=lambda_, **settings)


@functools.cache
def _walks_of_19_states(quick: bool) -> Any:
    return _watch(_walk(19, left_reward=-1), 150 if quick else 1000, 10, length=4000)


@functools.cache
def _errors(rule: Any, settings: tuple[float, ...], quick: bool) -> np.ndarray:
    """RMS errors [R, K, A] of a rule on 19 states, by its settings and α.

    Means over the states, and over the ends of the first ten episodes.
    """
    walk = _walk(19, left_reward=-1)
    error = _distance_to(_exact(walk))

    def one_run(walked, ends):
        def one(setting, step_size):
            values = jnp.zeros(walk.num_states)
            given = {"step_size": step_size, "discount": 1.0, "record": error}
            return rule(values, walked, setting, **given).records[ends].mean()

        over_step_sizes = jax.vmap(one, (None, 0))
        return jax.vmap(over_step_sizes, (0, None))(
            jnp.asarray(settings), jnp.asarray(STEP_SIZES, float)
        )

    spread = parallel.map_seeds(one_run, batch_size=20)
    return np.asarray(spread(*_walks_of_19_states(quick)))


def _distance_to(exact: jax.Array) -> Any:
    """The RMS error of values, over the states that are not terminal."""

    def distance(values):
        found = jnp.sqrt(jnp.mean((values - exact)[1:-1] ** 2))
        return jnp.where(found < WORST, found, WORST)

    return distance


def _error_curves(symbol: str, settings: Any, errors: np.ndarray) -> list[common.Curve]:
    """Errors [R, K, A] against α, a curve for each setting."""
    return [
        common.mean_curve(f"{symbol} = {setting:g}", STEP_SIZES, errors[:, k])
        for k, setting in enumerate(settings)
    ]


def _at(
    errors: np.ndarray,
    setting: float,
    step_size: float,
    settings: tuple[float, ...] = LAMBDAS,
) -> np.ndarray:
    """Errors [R, 1] of one setting and α."""
    return errors[:, settings.index(setting), np.isclose(STEP_SIZES, step_size)]


def _plot_errors(panels: Any, width: float = 4.8, one_legend: bool = False) -> Any:
    limits: Any = {"ylim": (0.24, 0.56), "xlim": (0, 1)}
    picture = common.plot(panels, "α", "RMS error", width=width, height=3.0, **limits)
    for axes in picture.axes:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    for axes in picture.axes[: -1 if one_legend else 0]:
        axes.get_legend().remove()
    return picture


def _least(text: str, samples: Any, threshold: float = 0.0) -> common.Statement:
    """That all means of samples [R, …] are above a threshold, by the lowest of them."""
    return min(_each(text, samples, threshold), key=lambda found: found.low)


def _within(text: str, samples: Any, margin: float) -> common.Statement:
    """That all means of samples [R, …] are within ±margin, by the one farthest off."""
    farthest = max(_each(text, samples), key=lambda x: max(-x.low, x.high))
    holds = -margin < farthest.low and farthest.high < margin
    return farthest._replace(holds=holds)


def _each(text: str, samples: Any, threshold: float = 0.0) -> list[common.Statement]:
    columns = np.reshape(samples, (len(samples), -1)).T
    return [common.above(text, column, threshold) for column in columns]


def _five_states(quick: bool) -> tuple[Any, ...]:
    """Values of one run [4, 5]; errors [R, α, E] of TD and MC, [R, K] of batches."""
    walk = _walk(5, left_reward=0)
    first = jnp.where(walk.terminal, 0, 0.5)
    error = _distance_to(_exact(walk))
    none = jnp.zeros(walk.num_states, jnp.int32)

    def one_run(walked, ends):
        def learn(rule, lambda_, step_sizes):
            def one(step_size):
                given = {"step_size": step_size, "discount": 1.0, "record": error}
                return rule(first, walked, lambda_=lambda_, **given).records[ends]

            return jax.vmap(one)(jnp.asarray(step_sizes))

        def batch(num_episodes):
            seen = _first_steps(walked, ends[num_episodes - 1] + 1)
            means = prediction.monte_carlo(
                first, none, seen, discount=1.0, first_visit=False
            )
            return error(prediction.batch_td(first, seen, discount=1.0)), error(
                means[0]
            )

        return (
            learn(prediction.td_lambda, 0.0, TD_STEP_SIZES),
            learn(prediction.offline_lambda, 1.0, MC_STEP_SIZES),
            *jax.vmap(batch)(jnp.asarray(EPISODES)),
        )

    walked, ends = _watch(walk, 250 if quick else 2000, 100, length=2400)
    alone = jax.tree.map(lambda x: x[0], walked)
    tables = prediction.td_lambda(
        first, alone, step_size=0.1, discount=1.0, lambda_=0.0, record=lambda v: v
    ).records[ends[0, jnp.array([0, 9, 99])]]
    learned = parallel.map_seeds(one_run, batch_size=50)(walked, ends)
    values = jnp.concatenate([first[None], tables])[:, 1:-1]
    return np.asarray(values), *(np.asarray(x) for x in learned)


def _first_steps(walked: rljax.Transition, num_steps: jax.Array) -> rljax.Transition:
    """The walk whose later steps are at an end, so that nothing is learned there."""
    later = jnp.arange(len(walked.reward)) >= num_steps
    return walked._replace(
        obs=jnp.where(later, 0, walked.obs),
        reward=jnp.where(later, 0, walked.reward),
        terminated=walked.terminated | later,
    )


def _plot_6_2(panels: Any) -> Any:
    picture = common.plot(panels, "episodes", "RMS error")
    values, errors, _ = picture.axes
    values.set(xlabel="state", ylabel="value", xticks=range(5))
    values.set_xticklabels("ABCDE")
    for line in errors.lines[len(TD_STEP_SIZES) :]:
        line.set_linestyle("--")
    errors.legend(fontsize=8)
    return picture


def figure_6_2(*, quick: bool = False) -> common.Drawn:
    """Example 6.2 and figure 6.2: TD(0) and Monte Carlo on five states."""
    values, td, mc, batch_td, batch_mc = _five_states(quick)
    exact, each = _exact(_walk(5, left_reward=0))[1:-1], np.arange(1, 101)
    shown = zip((0, 1, 10, 100), values, strict=True)
    panels = {
        "one run of TD(0), α = 0.1": [
            *(common.exact_curve(f"episodes: {k}", range(5), v) for k, v in shown),
            common.exact_curve("exact", range(5), exact),
        ],
        "while learning": [
            common.mean_curve(f"{name}, α = {step_size:g}", each, errors[:, i])
            for name, step_sizes, errors in (
                ("TD", TD_STEP_SIZES, td),
                ("MC", MC_STEP_SIZES, mc),
            )
            for i, step_size in enumerate(step_sizes)
        ],
        "batch training": [
            common.mean_curve("TD", EPISODES, batch_td),
            common.mean_curve("MC", EPISODES, batch_mc),
        ],
    }
    statements = [
        common.equal("The values are 1/6 to 5/6", exact, np.arange(1, 6) / 6, 1e-6),
        _least(
            "TD with α = 0.1 errs less than MC with each α, over 100 episodes",
            mc.mean(2) - td[:, [1]].mean(2),
        ),
        common.equal(
            "After one episode, batch TD and batch MC are the same",
            *(batch_td[:, 0], batch_mc[:, 0], 1e-5),
        ),
        _least(
            "From then on, batch TD errs less than batch MC at each point",
            (batch_mc - batch_td)[:, 1:],
        ),
    ]
    return common.Drawn(panels, statements, _plot_6_2(panels))


def figure_7_2(*, quick: bool = False) -> common.Drawn:
    """n-step TD on 19 states: the error over ten episodes, against α."""
    errors = _errors(_n_step, NUM_STEPS, quick)
    panels = {"n-step TD": _error_curves("n", NUM_STEPS, errors)}
    best = _at(errors, 4, 0.4, NUM_STEPS)
    statements = [
        _least(
            f"n = 4 with α = 0.4 errs less than n = {n} with each α",
            errors[:, NUM_STEPS.index(n)] - best,
        )
        for n in (1, 512)
    ]
    return common.Drawn(panels, statements, _plot_errors(panels))


def figure_12_3(*, quick: bool = False) -> common.Drawn:
    """The offline λ-return algorithm beside n-step TD, on 19 states."""
    errors = _errors(_offline, LAMBDAS, quick)
    n_step = _errors(_n_step, NUM_STEPS, quick)
    panels = {
        "offline λ-return algorithm": _error_curves("λ", LAMBDAS, errors),
        "n-step TD": _error_curves("n", NUM_STEPS, n_step),
    }
    best, best_n = _at(errors, 0.8, 0.4), _at(n_step, 4, 0.4, NUM_STEPS)
    statements = [
        _least(
            f"λ = 0.8 with α = 0.4 errs less than λ = {lambda_:g} with each α",
            errors[:, LAMBDAS.index(lambda_)] - best,
        )
        for lambda_ in (0.0, 1.0)
    ]
    statements += [
        _within("At their best, the two differ by less than 0.01", best_n - best, 0.01),
        _least(
            "At α = 1, λ = 0.4 errs less than each n",
            n_step[:, :, -1] - _at(errors, 0.4, 1.0),
        ),
    ]
    return common.Drawn(panels, statements, _plot_errors(panels))


def figure_12_6(*, quick: bool = False) -> common.Drawn:
    """TD(λ) beside the offline λ-return algorithm and true online TD(λ)."""
    rules = (_td_lambda, _offline, _true_online)
    td, offline, online = (_errors(rule, LAMBDAS, quick) for rule in rules)
    panels = {
        "TD(λ), accumulating traces": _error_curves("λ", LAMBDAS, td),
        "offline λ-return algorithm": _error_curves("λ", LAMBDAS, offline),
        "true online TD(λ)": _error_curves("λ", LAMBDAS, online),
    }
    # α at most the one that is best for the offline algorithm, for each λ.
    small = STEP_SIZES <= np.array([[0.8, 0.7, 0.4, 0.25, 0.15, 0.1, 0.05, 0.02]]).T
    statements = [
        _within(
            "With α ≤ 0.05 and λ ≤ 0.95, TD(λ) and offline differ by less than 0.01",
            (td - offline)[:, : LAMBDAS.index(0.975), STEP_SIZES < 0.06],
            0.01,
        ),
        _within(
            "With each λ's best α or less, TD(λ) and offline differ by less than 0.04",
            (td - offline)[:, small],
            0.04,
        ),
        _least(
            "With λ = 0.9 and each α of 0.3 or more, TD(λ) errs more",
            (td - offline)[:, LAMBDAS.index(0.9), STEP_SIZES > 0.29],
        ),
        _least(
            "With λ ≥ 0.975 and α ≥ 0.3 it is worse than not to learn",
            (td - td[:, :, :1])[:, LAMBDAS.index(0.975) :, STEP_SIZES > 0.29],
        ),
        _least(
            "At their best, λ = 0.8, true online TD(λ) errs less than TD(λ)",
            _at(td, 0.8, 0.3) - _at(online, 0.8, 0.4),
        ),
        common.equal(
            "At λ = 1, true online TD(λ) is the offline algorithm",
            *(online[:, -1], offline[:, -1], 1e-5),
        ),
    ]
    return common.Drawn(panels, statements, _plot_errors(panels, 3.2, True))


FIGURES = [
    common.Figure("6.2", "TD(0) and Monte Carlo on a random walk", figure_6_2),
    common.Figure("7.2", "n-step TD on a random walk", figure_7_2),
    common.Figure("12.3", "the offline λ-return algorithm", figure_12_3),
    common.Figure("12.6", "TD(λ) on a random walk", figure_12_6),
]
