"""Chapter 10: the mountain car, whose states are infinitely many."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from figures import common
from rljax import exploration, parallel, random, rollout
from rljax.plotting import figures

ENV = rljax.MountainCar(max_position=0.5)
LOW, HIGH = (
    np.asarray(ENV.observation_space.low),
    np.asarray(ENV.observation_space.high),
)
SHAPE = (205, 113)
"""Positions and velocities on the maps."""
STARTS = np.linspace(-0.6, -0.4, 41)
"""Positions that stand for U[−0.6, −0.4)."""


def _sarsa(step_size: Any, rollout_length: int) -> rljax.LinearSarsa:
    """Greedy semi-gradient Sarsa on 8 tilings of 8 × 8 tiles; the book's α is α/8."""
    return rljax.LinearSarsa(
        step_size=step_size,
        discount=1.0,
        exploration=exploration.EpsilonGreedy(0.0),
        rollout_length=rollout_length,
    )


# What is best: by search for plans, and by planning on a grid of states.


def _least_steps() -> np.ndarray:
    """Steps to the goal from each start, by the best of 9,600 plans.

    A plan drives at full throttle one way for up to 59 steps, then the other way for up
    to 79, and then the first way again.
    """
    first, then = (x.ravel() for x in np.mgrid[:60, :80])
    sign = np.repeat([1.0, -1.0], first.size)
    first, until = np.tile(first, 2), np.tile(first + then, 2)
    position = np.repeat(STARTS[:, None], first.size, 1)
    velocity, steps = np.zeros_like(position), np.full(position.shape, 999)
    for t in range(120):
        throttle = np.where((first <= t) & (t < until), -sign, sign)
        velocity += 0.001 * throttle - 0.0025 * np.cos(3 * position)
        velocity = np.clip(velocity, -0.07, 0.07)
        position = np.clip(position + velocity, -1.2, 0.5)
        velocity[(position == -1.2) & (velocity < 0)] = 0
        steps = np.minimum(steps, np.where(position == 0.5, t + 1, 999))
    return steps.min(1)


def _grid(shape: tuple[int, int]) -> Any:
    """Observations [*shape, 2] over all positions and velocities."""
    axes = map(np.linspace, LOW, HIGH, shape)
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)


@functools.partial(jax.jit, static_argnums=0)
def _planned(shape: tuple[int, int]) -> Any:
    """Least costs to go on a grid, by value iteration with bilinear interpolation."""
    grid = _grid(shape)
    key = jax.random.key(0)

    def ahead(obs, action):
        state = ENV.reset(key)[0]._replace(position=obs[0], velocity=obs[1])
        return ENV.step(state, action, key)[1].obs

    over_actions = jax.vmap(ahead, (None, 0))
    over_grid = jax.vmap(jax.vmap(lambda obs: over_actions(obs, jnp.arange(3))))
    places = (over_grid(grid) - LOW) / (HIGH - LOW) * (jnp.array(shape) - 1)
    places = [places[..., 0], places[..., 1]]

    def sweep(_, costs):
        costs = jax.scipy.ndimage.map_coordinates(costs, places, 1, "nearest")
        return jnp.where(grid[..., 0] < HIGH[0], 1 + costs.min(-1), 0)

    return jax.lax.fori_loop(0, 300, sweep, jnp.zeros(shape))


# Learning.


class _Run(NamedTuple):
    """How far a run has come; all but `train` scalars."""

    train: Any
    num_steps: Any
    num_episodes: Any


@jax.jit
def _go_on(agent: Any, run: _Run, max_steps: Any, max_episodes: Any) -> _Run:
    """Learns step by step until there are as many steps, or as many episodes ended."""

    def goes_on(run):
        return (run.num_steps < max_steps) & (run.num_episodes < max_episodes)

    def step(run):
        train, metrics = rljax.train_step(agent, ENV, run.train)
        return _Run(train, run.num_steps + 1, run.num_episodes + metrics.num_episodes)

    return jax.lax.while_loop(goes_on, step, run)


@jax.jit
def _costs_to_go(agent: Any, run: _Run, obs: Any) -> Any:
    """−max_a q(s,a) at observations [..., 2]."""
    state = run.train.agent_state

    def cost(obs):
        return -agent.action_values(state, obs).max()

    return jnp.vectorize(cost, signature="(d)->()")(obs)


def _first_steps(agent: Any, num_steps: int) -> tuple[_Run, np.ndarray]:
    """A run after its first steps, and the observations [num_steps, 2] of them."""
    train = rljax.init_train(agent, ENV, random.key(0))
    run = _Run(train, jnp.int32(0), jnp.int32(0))
    path = []
    for number in range(num_steps):
        path.append(run.train.rollout_state.obs[0])
        run = _go_on(agent, run, number + 1, 1)
    return run, np.array(path)


def _maps(costs: dict[str, np.ndarray], path: np.ndarray) -> Any:
    """A picture of costs to go [P, V], and of the path in the first of them."""
    picture = figures.new(11.4, 5.8)
    all_axes = picture.subplots(2, 3, sharex=True, sharey=True)
    places = [np.linspace(*ends) for ends in zip(LOW, HIGH, SHAPE, strict=True)]
    for axes, (title, cost) in zip(all_axes.flat, costs.items(), strict=True):
        levels = np.linspace(0, cost.max(), 21)
        image = axes.contourf(*places, np.maximum(cost, 0).T, levels)
        picture.colorbar(image, ax=axes, pad=0.02, ticks=levels[::5], format="%.0f")
        axes.set_title(title, fontsize=10)
    all_axes[0, 0].plot(*path.T, color=figures.ORANGE, lw=0.8)
    picture.supxlabel("position", fontsize=10)
    picture.supylabel("velocity", fontsize=10)
    return picture


LENGTH, MOST = 5000, 150_000
"""Steps of each run between two looks at how many episodes have ended, and the most."""


def _start(key: Any, step_size: Any) -> rljax.TrainState:
    return rljax.init_train(_sarsa(step_size, LENGTH), ENV, key)


def _go_on_by_length(state: rljax.TrainState, step_size: Any) -> tuple[Any, Any]:
    """A run after LENGTH more steps, and which of them [LENGTH] ended an episode."""
    *keys, key = random.split(state.key, 3)
    done = rollout.interact(
        _sarsa(step_size, LENGTH),
        state.agent_state,
        ENV,
        state.rollout_state,
        *keys,
        record=lambda _, transition: transition.terminated,
    )
    state = rljax.TrainState(done.agent_state, done.rollout_state, key)
    return state, done.records[:, 0]


def _episode_lengths(num_runs: int, num_episodes: int) -> dict[str, np.ndarray]:
    """Steps of the first episodes of independent runs, [num_runs, num_episodes].

    A run that is caught in a cycle of states which share all their tiles, so that their
    values fall together for ever, is left out. One in some thousand is.
    """
    keys = iter(random.split(random.key(0), 3))
    start, go_on = map(parallel.map_seeds, (_start, _go_on_by_length))
    lengths = {}
    for step_size in (0.1, 0.2, 0.5):
        step_sizes = jnp.full(num_runs, step_size)
        states = start(random.split(next(keys), num_runs), step_sizes)
        ends = np.zeros((num_runs, 0), bool)
        while (ends.sum(1) < num_episodes).any() and ends.shape[1] < MOST:
            states, done = go_on(states, step_sizes)
            ends = np.concatenate([ends, done], 1)
        ends = ends[ends.sum(1) >= num_episodes]
        last = np.array([np.flatnonzero(run)[:num_episodes] for run in ends])
        lengths[f"α = {step_size}/8"] = np.diff(last, prepend=-1)
    return lengths


def figure_10_1(*, quick: bool = False) -> common.Drawn:
    """Costs to go −max_a q(s,a) over positions and velocities, during one run."""
    episodes = (12, 104, 300, 1000) if quick else (12, 104, 1000, 9000)
    agent, planned = _sarsa(0.5, 1), np.asarray(_planned(SHAPE))
    run, path = _first_steps(agent, 428)
    runs = {"step 428": run}
    for number in episodes:
        run = _go_on(agent, run, 2_000_000, number)
        runs[f"episode {number:,}"] = run
    costs = {name: _costs_to_go(agent, run, _grid(SHAPE)) for name, run in runs.items()}
    away = [np.abs(cost - planned).mean() for cost in costs.values()]
    first, *_, before, last = runs.values()
    visited, unlike = _costs_to_go(agent, first, path), np.median(costs["step 428"])
    best, starts = _least_steps().mean(), np.stack([STARTS, 0 * STARTS], 1)
    at_starts = _costs_to_go(agent, last, starts).mean()
    steps = (last.num_steps - before.num_steps) / (episodes[-1] - episodes[-2])
    statements = [
        _none("of the episodes is over by step 428", first.num_episodes),
        _none(
            "of the states visited by then looks as good as the median state, although "
            "ε = 0: costs of 0 are optimistic",
            (visited <= unlike).sum(),
        ),
        _none(
            "of the next three panels is further from the planned costs than the one "
            "before",
            (np.diff(away[:4]) >= 0).sum(),
        ),
        _near(
            f"an episode between the last two panels takes {steps:.1f} steps",
            steps,
            best,
        ),
        _near(f"the last cost to go at the starts is {at_starts:.1f}", at_starts, best),
    ]
    costs = {name: np.asarray(cost) for name, cost in costs.items()}
    costs["planned"] = planned
    panels = {"costs to go": [common.grid(n, c[::16, ::8]) for n, c in costs.items()]}
    return common.Drawn(panels, statements, _maps(costs, path))


def _none(text: str, number: Any) -> common.Statement:
    return common.equal(f"none {text}", number, 0, 0)


def _near(text: str, steps: Any, best: float) -> common.Statement:
    text += f", {best:.1f} by the best plans; their quotient is 1 to a quarter"
    return common.equal(text, steps / best, 1, 0.25)


def figure_10_2(*, quick: bool = False) -> common.Drawn:
    """Steps per episode, on a log scale, for α = 0.1/8, 0.2/8 and 0.5/8."""
    num_runs, num_episodes = (24, 300) if quick else (200, 500)
    lengths = _episode_lengths(num_runs, num_episodes)
    shown, best = np.r_[:50, 51:num_episodes:3], _least_steps().mean()
    curves = [
        common.mean_curve(name, shown + 1, samples[:, shown])
        for name, samples in lengths.items()
    ]
    curves.append(common.exact_curve("best plans", [1, num_episodes], [best] * 2))
    panels = {"mountain car": curves}
    picture = common.plot(
        panels, "episode", "steps per episode", width=6.4, height=4, yscale="log"
    )
    figures.count_on_log_scale(picture.axes[0].yaxis)
    early = sum((samples[:, 0] <= 428).sum() for samples in lengths.values())
    caught = 1 - sum(map(len, lengths.values())) / (3 * num_runs)
    statements = [
        *_said_of(lengths, best),
        _none("of the first episodes is over by step 428", early),
        common.equal("share of runs caught in a cycle: 0 to 1 %", caught, 0, 0.01),
    ]
    return common.Drawn(panels, statements, picture)


def _said_of(lengths: dict[str, np.ndarray], best: float) -> list[common.Statement]:
    """Which step size learns fastest, and how near they all come to the best plans."""
    *slower, fastest = lengths
    statements = []
    for when, part in (
        ("episodes 1 to 100", slice(100)),
        ("the last 50", slice(-50, None)),
    ):
        means = {name: samples[:, part].mean(1) for name, samples in lengths.items()}
        for name in slower:
            text = f"{name} takes more steps than {fastest} over {when}"
            statements.append(common.larger(text, means[name], means[fastest]))
    for name, steps in means.items():
        text = f"the last 50 of {name} take more than the best plans' {best:.1f} steps"
        statements.append(common.above(text, steps, best))
    text = f"the last 50 of {fastest} take less than 1.4 times as many"
    statements.append(common.below(text, means[fastest], 1.4 * best))
    return statements


FIGURES = [
    common.Figure("10.1", "costs to go of the mountain car", figure_10_1),
    common.Figure("10.2", "Sarsa with tiles on the mountain car", figure_10_2),
]
