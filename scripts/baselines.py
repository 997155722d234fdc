#!/usr/bin/env python
"""Measures what a baseline does, and what a wrong sign in a shared trunk costs.

python scripts/baselines.py
"""

import csv
import dataclasses
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import rljax
from rljax import networks, parallel, returns, rollout, struct
from rljax.experiment import cli, statistics

try:
    import rich.console
    import rich.table
    import tyro
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter
    from scipy import stats
except ImportError as error:
    sys.exit(f"{error}. Install the command-line extra: pip install -e '.[cli]'")


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures what a baseline does, and what a wrong sign in a shared trunk costs."""

    num_trajectories: int = 20_000
    """Episodes whose gradients are compared with and without baseline."""
    num_seeds: int = 50
    """Independent trainings of each variant of the actor-critic update."""
    num_updates: int = 100
    """Updates of each training in batches."""
    num_episodes: int = 600
    """Episodes of each training step by step, as published."""
    seed: int = 0
    """Seed of the random key."""
    output: Path = Path("runs")
    """Folder in which the run gets a new folder of its own."""

    def __post_init__(self):
        cli.check_flags(
            self, num_trajectories=100, num_seeds=2, num_updates=10, num_episodes=10
        )


def main() -> int:
    parallel.use_cpu_cores()
    try:
        config = tyro.cli(Config)
        folder = cli.make_run_folder(config.output, "baselines")
    except (TypeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    return cli.report_end(folder, lambda: run(config, folder, console))


def run(config: Config, folder: Path, console: rich.console.Console) -> int:
    """Prints both measurements and leaves the curves in `folder`."""
    cli.write_config(folder, dataclasses.asdict(config), version=rljax.__version__)
    start = time.perf_counter()
    key_gradients, key_training = jax.random.split(jax.random.key(config.seed))
    with console.status("gradients of single trajectories …"):
        comparison = compare_baselines(config.num_trajectories, key_gradients)
    console.print(baseline_table(comparison, config.num_trajectories))
    curves = {}
    for name, (agent, env, num_updates) in variants(config).items():
        with console.status(f"training {name} …"):
            curves[name] = train(agent, env, num_updates, config, key_training)
    console.print(trunk_table(curves, config.num_seeds))
    write_curves(folder / "curves.csv", curves)
    save_picture(folder / "baselines.png", curves, config.num_seeds)
    console.print(
        f"{time.perf_counter() - start:.0f} s, compilation included. Saved in {folder}",
        soft_wrap=True,
        markup=False,
    )
    return 0


# What a baseline does to the policy gradient.

BIASED = "critic + action (biased)"


def compare_baselines(num_trajectories: int, key: jax.Array) -> dict[str, np.ndarray]:
    """Gradients [num_trajectories, parameters] of single episodes, by baseline.

    All of one policy, half trained, on one and the same episodes. The mean return and
    the critic are fitted to other episodes, as they must. A baseline that knows the
    action taken is biased: the last one is there to show that this would be seen.
    """
    env = rljax.make("CartPole-v1", max_steps=200)
    agent = rljax.ActorCritic(num_envs=64, rollout_length=200, hidden_sizes=(16,))
    key_train, key_fit, key_critic, key_play = jax.random.split(key, 4)
    trained, _ = rljax.train(agent, env, key_train, num_updates=20)
    state = trained.agent_state

    def episode(key):
        key_reset, key_unroll = jax.random.split(key)
        start = rollout.start(env, key_reset)
        _, t, _ = rollout.unroll(agent, state, env, start, key_unroll, length=200)
        mask = returns.first_episode(t.terminated, t.truncated)
        g = returns.discounted_returns(
            t.reward, jnp.zeros(200), t.terminated, t.truncated, agent.discount
        )
        return t, jnp.where(mask, g, 0), mask

    def gradients(key, mean_return):
        t, g, mask = episode(key)
        values = jax.vmap(critic)(t.obs)
        baselines = {
            "none": jnp.zeros(200),
            "mean return": jnp.full(200, mean_return),
            "critic V(s)": values,
            BIASED: values + 10.0 * t.action,
        }

        def objective(params, weights):
            logits, _ = jax.vmap(
                lambda obs: networks.actor_critic_apply(params, obs, agent.activation)
            )(t.obs)
            log_probs = rljax.distributions.categorical_log_prob(logits, t.action)
            return jnp.sum(jnp.where(mask, log_probs * weights, 0))

        def flat(weights):
            grads = jax.grad(objective)(state.params, weights)
            policy = (grads.trunk, grads.actor)
            return ravel_pytree(policy)[0]

        return {name: flat(g - baseline) for name, baseline in baselines.items()}

    t, g, mask = jax.jit(jax.vmap(episode))(jax.random.split(key_fit, 1000))
    mean_return = jnp.sum(g) / jnp.sum(mask)
    critic = fitted_critic(t.obs[mask], g[mask], key_critic)
    keys = jax.random.split(key_play, num_trajectories)
    out = jax.jit(
        lambda keys: jax.lax.map(
            lambda key: gradients(key, mean_return), keys, batch_size=250
        )
    )(keys)
    names = ["none", "mean return", "critic V(s)", BIASED]  # jit has sorted them
    return {name: np.asarray(out[name], np.float64) for name in names}


def fitted_critic(obs: jax.Array, targets: jax.Array, key: jax.Array) -> Any:
    """V(s), fitted by Adam on all states at once."""
    layers = networks.mlp_init((4, 64, 1), key)
    scale = jnp.std(targets)
    optimizer = optax.adam(1e-2)

    def value(layers, obs):
        return scale * networks.mlp_apply(layers, obs, "relu").squeeze(-1)

    def loss(layers):
        values = jax.vmap(value, (None, 0))(layers, obs)
        return rljax.losses.value_loss(values / scale, targets / scale)

    def step(carry, _):
        layers, state = carry
        updates, state = optimizer.update(jax.grad(loss)(layers), state)
        return (optax.apply_updates(layers, updates), state), None

    start = (layers, optimizer.init(layers))
    (layers, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=300))(start)
    return lambda obs: value(layers, obs)


def baseline_table(
    gradients: dict[str, np.ndarray], num_trajectories: int
) -> rich.table.Table:
    """Bias in standard errors, and the ratio of variances with its interval."""
    plain = gradients["none"]
    num_parameters = plain.shape[1]
    table = rich.table.Table(
        title="The policy gradient of one episode, with and without baseline",
        caption=f"{num_trajectories:,} episodes of one policy, {num_parameters} "
        "parameters. Change of the mean: the norm of the mean difference from 'none' "
        "over its standard error, √(Σ Var / N); p: how often it is as large without "
        "bias (500 draws with random signs of the differences). Variance: summed over "
        "parameters, relative to 'none', with its 95 % bootstrap interval.",
    )
    for heading in ("baseline", "change of the mean", "p", "variance"):
        table.add_column(heading, justify="left" if heading == "baseline" else "right")
    for name, sample in gradients.items():
        row = ["", "", "1"]
        if name != "none":
            size, p = change_of_mean(sample - plain)
            ratio, low, high = variance_ratio(sample, plain)
            variance = f"{ratio:.3f} [{low:.3f}, {high:.3f}]"
            row = [f"{size:.2f} SE", f"{p:.2g}", variance]
        table.add_row(name, *row)
    return table


def change_of_mean(differences: np.ndarray) -> tuple[float, float]:
    """‖mean of [N, D]‖ over its standard error, and its p-value without a change."""
    count = len(differences)
    error = np.sqrt(differences.var(0, ddof=1).sum() / count)
    size = np.linalg.norm(differences.mean(0)) / error
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (500, count))
    by_chance = np.linalg.norm(signs @ differences / count, axis=1) / error
    return float(size), float((1 + (by_chance >= size).sum()) / 501)


def variance_ratio(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Σ Var(a) / Σ Var(b) of paired samples [N, D], with its bootstrap interval."""
    squares = [np.square(x - x.mean(0)).sum(1) for x in (a, b)]
    result = stats.bootstrap(
        squares,
        lambda x, y, axis: x.mean(axis) / y.mean(axis),
        paired=True,
        vectorized=True,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    ratio = squares[0].mean() / squares[1].mean()
    return ratio, *result.confidence_interval


# What the published sign error in the shared trunk costs.


@dataclasses.dataclass(frozen=True)
class SharedTrunk:
    """An actor and a critic on one ReLU layer, right or with the published mistakes."""

    wrong_sign: bool
    """Whether the critic's gradient enters the trunk with its sign turned."""
    head_biases: bool = True
    """Whether the biases of the two heads are trained."""
    num_hidden: int = 64
    """Units of the trunk."""

    def init(self, key: jax.Array, obs: Any) -> networks.ActorCriticParams:
        """He-normal weights and zero biases, as ActorCritic's own."""
        return networks.actor_critic_init(
            obs.size,
            2,
            (self.num_hidden,),
            key,
            shared=True,
            initialization="he_normal",
        )

    def apply(self, params: Any, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits [2] and value []."""
        if not self.head_biases:
            params = params._replace(
                actor=constant_bias(params.actor), critic=constant_bias(params.critic)
            )
        h = networks.mlp_apply(params.trunk, obs, "relu", activate_final=True)
        logits = networks.mlp_apply(params.actor, h, "relu")
        # The same number, with the derivative −1.
        seen = 2 * jax.lax.stop_gradient(h) - h if self.wrong_sign else h
        return logits, networks.mlp_apply(params.critic, seen, "relu").squeeze(-1)


def constant_bias(layers: Any) -> Any:
    (layer,) = layers
    return (layer._replace(bias=jax.lax.stop_gradient(layer.bias)),)


@struct.dataclass
class Measured(rljax.ActorCritic):
    """An actor-critic that reports its critic's error on what it is about to learn.

        error = Σ (G − V(s))² / Σ G²

    0 is perfect, 1 what V = 0 has. G is bootstrapped where an episode is cut. With
    `step_by_step`, the update is one of ActorCritic after every single time step of the
    first episode, in order, and G what was seen of it, both as published.
    """

    step_by_step: bool = struct.static(default=False)
    """See above."""
    fresh_episodes: bool = struct.static(default=False)
    """Whether every rollout begins with a reset."""

    @property
    def rollout_plan(self):
        """As of an actor-critic, but that rollouts may begin with a reset."""
        return super().rollout_plan._replace(fresh_episodes=self.fresh_episodes)

    def update(self, state, trajectory, key):
        """As above."""
        ends = (trajectory.terminated, trajectory.truncated)
        value = jax.vmap(jax.vmap(lambda obs: self.value(state, obs)))
        values, next_values = value(trajectory.obs), value(trajectory.next_obs)
        mask = jnp.ones(values.shape, bool)
        if self.step_by_step:
            mask = jax.vmap(returns.first_episode, 1, 1)(*ends)
            next_values = jnp.zeros_like(values)
        g = jax.vmap(returns.discounted_returns, (1, 1, 1, 1, None), 1)(
            trajectory.reward, next_values, *ends, self.discount
        )
        error = jnp.sum(jnp.square(g - values), where=mask)
        size = jnp.sum(jnp.square(g), where=mask)
        metrics = {"critic_error": error / jnp.maximum(size, 1e-6)}
        if not self.step_by_step:
            return rljax.ActorCritic.update(self, state, trajectory, key)[0], metrics

        def one_step(state, step):
            transition, g, counts = jax.tree.map(lambda x: x[None], step)
            # An episode of one step that pays G: A = G − V(s), and the target is G.
            transition = transition._replace(
                reward=g,
                terminated=jnp.ones((1, 1), bool),
                truncated=jnp.zeros((1, 1), bool),
            )
            after, _ = rljax.ActorCritic.update(self, state, transition, key)
            return jax.tree.map(
                lambda new, old: jnp.where(counts[0, 0], new, old), after, state
            ), None

        return jax.lax.scan(one_step, state, (trajectory, g, mask))[0], metrics


def variants(config: Config) -> dict[str, tuple[Measured, Any, int]]:
    """Agent, environment and number of updates of each training."""
    env = rljax.make("CartPole-v1")
    chosen = {}
    for sign, wrong in (("right", False), ("wrong", True)):
        agent = Measured(num_envs=8, network=SharedTrunk(wrong))
        chosen[f"batches: {sign}"] = (agent, env, config.num_updates)
    for learning_rate in (0.005, 0.0002):
        for sign, wrong in (("right", False), ("wrong", True)):
            agent = Measured(
                num_envs=1,
                learning_rate=learning_rate,
                optimizer=optax.sgd,
                network=SharedTrunk(wrong, head_biases=False),
                step_by_step=True,
                fresh_episodes=True,
            )
            name = f"step by step, α = {learning_rate}: {sign}"
            chosen[name] = (agent, env, config.num_episodes)
    return chosen


def train(
    agent: Measured, env: Any, num_updates: int, config: Config, key: jax.Array
) -> rljax.Metrics:
    """Metrics [num_seeds, num_updates]."""
    one = parallel.map_seeds(
        lambda key: rljax.train(agent, env, key, num_updates=num_updates)[1]
    )
    metrics = one(jax.random.split(key, config.num_seeds))
    return jax.tree.map(np.asarray, metrics)


def last_tenth(metrics: rljax.Metrics) -> tuple[np.ndarray, np.ndarray]:
    """Return and critic error of each seed over its last tenth of updates."""
    num_updates = metrics.num_episodes.shape[1]
    last = slice(num_updates - max(1, num_updates // 10), None)
    totals = np.asarray(metrics.episode_return_sum)[:, last].sum(1)
    counts = np.asarray(metrics.num_episodes)[:, last].sum(1)
    errors = np.asarray(metrics.agent["critic_error"])
    return totals / np.maximum(counts, 1), np.median(errors[:, last], 1)


def trunk_table(curves: dict[str, rljax.Metrics], num_seeds: int) -> rich.table.Table:
    """Critic error and return at the end, by variant."""
    table = rich.table.Table(
        title="The critic's gradient in the shared trunk, CartPole-v1",
        caption=f"{num_seeds} seeds, their last tenth of updates; "
        "interquartile mean over seeds with its 95 % bootstrap interval. Critic error: "
        "Σ(G − V)² / ΣG² on what is about to be learned; 1 is what V = 0 has. "
        "Batches: rljax.ActorCritic, 8 × 500 steps an update. Step by step: an SGD "
        "step after each time step of an episode, the heads' biases untrained, as "
        "published, where α is 0.005.",
    )
    table.add_column("update: sign in the trunk")
    for heading in ("critic error", "return in training"):
        table.add_column(heading, justify="right")
    for name, metrics in curves.items():
        reached, error = last_tenth(metrics)
        table.add_row(name, with_interval(error, 2), with_interval(reached, 1))
    return table


def with_interval(scores: np.ndarray, digits: int) -> str:
    low, high = statistics.bootstrap_interval(scores)
    middle = statistics.interquartile_mean(scores)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def write_curves(path: Path, curves: dict[str, rljax.Metrics]) -> None:
    """One row per variant, seed and update."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["variant", "seed", "update", "num_episodes", "return_sum", "critic_error"]
        )
        for name, m in curves.items():
            for seed, update in np.ndindex(m.num_episodes.shape):
                at = (seed, update)
                sums = (m.num_episodes[at], m.episode_return_sum[at])
                error = m.agent["critic_error"][at]
                writer.writerow([name, seed, update + 1, *sums, error])


def save_picture(path: Path, curves: dict[str, rljax.Metrics], num_seeds: int) -> None:
    """Critic error and return over updates, a row for each way of updating."""
    figure = Figure(figsize=(11, 10), layout="constrained")
    figure.suptitle(
        f"Sign of the critic's gradient in the shared trunk, {num_seeds} seeds: IQM "
        "and 95 % bootstrap interval"
    )
    modes = list(dict.fromkeys(name.split(": ")[0] for name in curves))
    panels = figure.subplots(len(modes), 2)
    for name, metrics in curves.items():
        mode, sign = name.split(": ")
        row = panels[modes.index(mode)]
        steps, reached = statistics.windowed_episode_returns(metrics, 40)
        edges = np.append(0, steps)
        errors = metrics.agent["critic_error"]
        error = np.stack(
            [np.median(errors[:, i:j], 1) for i, j in itertools.pairwise(edges)], 1
        )
        color = "tab:red" if sign == "wrong" else "tab:blue"
        for axes, scores, label in (
            (row[0], error, "critic error"),
            (row[1], reached, "episode return in training"),
        ):
            middle = statistics.interquartile_mean(scores, axis=0)
            low, high = statistics.bootstrap_interval(scores.T, num_resamples=500)
            axes.plot(steps, middle, color=color, label=f"{sign} sign")
            axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
            unit = "updates" if mode == "batches" else "episodes"
            axes.set(title=mode, xlabel=unit, ylabel=label)
            axes.grid(alpha=0.3)
        row[0].set_yscale("linear" if mode == "batches" else "log")
        row[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        row[0].axhline(1, color="black", linewidth=0.7, linestyle="--")
    panels[0, 1].legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
