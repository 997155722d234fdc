"""Trains a policy on a reward less β times its KL from a reference, by every algorithm
here, and holds each run against the exact optimum.

rljax rlhf                                  # 5 algorithms × 3 β × 10 seeds
rljax rlhf --policy mlp --kl-coefs 0.1 0.3
rljax rlhf --num-pairs 100000 --num-proxy-pairs 300
"""

import csv
import dataclasses
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib  # noqa: F401 (missed now, not after the work)
import numpy as np
import rich.console
import rich.table
import scipy  # noqa: F401 (missed now, not after the work)
import tyro

import rljax
from rljax import parallel, plotting
from rljax.experiment import cli, statistics, writers
from rljax.plotting import Alignment
from rljax.rlhf import networks as causal
from rljax.rlhf import optimum, preferences, rewards, sequences

PROXY_KL_COEFS = (4.0, 2.0, 1.0, 0.5, 0.1)
NUM_TRAINED_PROXIES = 4
MARGIN = 0.02


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains policies on a reward less β times their KL from a reference."""

    vocabulary_size: int = 8
    """Tokens to choose from, V."""
    horizon: int = 4
    """Tokens of a sequence, H; all V^H sequences are enumerated."""
    num_prompts: int = 1
    """Prompts, each with rewards of its own."""
    reward: Literal["bigram", "table"] = "bigram"
    """Random scores of neighbouring tokens, or a random number for each sequence."""
    policy: Literal["table", "mlp", "transformer"] = "table"
    """Kind of network."""
    reference_scale: float = 0.5
    """Standard deviation of the reference's logits, for a table; networks start from
    their initial parameters, which are almost uniform."""
    kl_coefs: tuple[float, ...] = (0.05, 0.2, 1.0)
    """Prices β of a nat."""
    num_seeds: int = 10
    """Independent runs of each algorithm and price."""
    num_updates: int = 400
    """Updates of each run."""
    num_pairs: int = 20_000
    """Preferences that DPO learns from."""
    num_proxies: int = 32
    """Reward models, each fitted to preferences of its own."""
    num_proxy_pairs: int = 100
    """Preferences that each of them is fitted to."""
    seed: int = 0
    """Seed of the random key."""
    output: Path = Path("runs")
    """Folder in which the run gets a new folder of its own."""

    def __post_init__(self):
        minima = {"vocabulary_size": 2, "horizon": 1, "num_prompts": 1, "num_seeds": 2}
        minima |= {"num_updates": 1, "num_pairs": 1, "num_proxies": 2}
        cli.check_flags(self, **minima, num_proxy_pairs=1)
        size = self.num_prompts * self.vocabulary_size**self.horizon
        if size > 100_000:
            raise ValueError(
                f"--num-prompts × --vocabulary-size ** --horizon = {size:,} sequences "
                "are too many to be enumerated after every update; 100,000 is the most."
            )
        if not self.kl_coefs or not all(0 < beta < np.inf for beta in self.kl_coefs):
            raise ValueError(
                f"--kl-coefs must be finite numbers more than 0, got {self.kl_coefs}."
            )
        if len(set(self.kl_coefs)) < len(self.kl_coefs):
            raise ValueError(f"--kl-coefs must differ, got {self.kl_coefs}.")
        if not 0 <= self.reference_scale < np.inf:
            raise ValueError(
                f"--reference-scale must be 0 or more, got {self.reference_scale}."
            )


class Problem(NamedTuple):
    """What there is to be learned, and from where."""

    env: rljax.TokenMDP
    network: Any
    critic: Any
    reference: Any
    """Parameters of π_ref for `network`."""
    log_probs: jax.Array
    """[P, V^H] log π_ref(y|x)."""


def make_problem(config: Config) -> Problem:
    """A random problem of the flags' sizes."""
    key_reward, key_reference, key_noise = jax.random.split(
        jax.random.key(config.seed), 3
    )
    sizes = (config.vocabulary_size, config.horizon, config.num_prompts)
    kind = {"bigram": rewards.BigramReward, "table": rewards.TableReward}
    reward = kind[config.reward].random(
        *sizes[:2], key_reward, num_prompts=config.num_prompts
    )
    network_class = {
        "table": causal.Table,
        "mlp": causal.MLP,
        "transformer": causal.Transformer,
    }[config.policy]
    network = network_class(*sizes)
    reference = network.init(key_reference, jnp.zeros((), jnp.int32))
    if config.policy == "table":
        noise = jax.random.normal(key_noise, reference.shape)
        reference = config.reference_scale * noise
    obs = jnp.asarray(sequences.unfinished(*sizes))
    logits = jax.vmap(jax.vmap(lambda o: network.apply(reference, o)))(obs)
    log_probs = sequences.sequence_log_probs(jax.nn.log_softmax(logits), sizes[1])
    env = rljax.TokenMDP(reward, *sizes)
    return Problem(env, network, network_class(*sizes, outputs=1), reference, log_probs)


def make_agents(config: Config, problem: Problem, key: jax.Array) -> dict[str, Any]:
    """By name; steps as they suit the policy's kind."""
    scale = {"table": 1.0, "mlp": 0.3, "transformer": 0.1}[config.policy]
    key_critic, key_pairs = jax.random.split(key)
    critic = problem.critic.init(key_critic, jnp.zeros((), jnp.int32))
    shared: dict[str, Any] = {
        "rollout_length": config.horizon,
        "anneal_updates": config.num_updates,
    }
    alone: dict[str, Any] = {
        "network": problem.network,
        "reference": problem.reference,
        **shared,
    }
    published: dict[str, Any] = {"kl_in": "loss", "kl_estimator": "k3"}
    return {
        "PPO-KL": rljax.PPOKL(
            learning_rate=0.03 * scale,
            network=causal.Pair(problem.network, problem.critic),
            reference=(problem.reference, critic),
            **shared,
        ),
        "RLOO": rljax.RLOO(learning_rate=0.05 * scale, **alone),
        "GRPO": rljax.GRPO(learning_rate=0.03 * scale, **alone),
        "GRPO published": rljax.GRPO(learning_rate=0.03 * scale, **published, **alone),
        "DPO": rljax.DPO(
            preferences=preferences.sample_preferences(
                problem.env, problem.log_probs, key_pairs, num_pairs=config.num_pairs
            ),
            learning_rate=0.03 * scale,
            batch_size=min(256, config.num_pairs),
            **alone,
        ),
    }


def main() -> int:
    """Runs the command with the flags of `sys.argv`; returns the exit status."""
    try:
        config = tyro.cli(Config)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parallel.use_cpu_cores()
    try:
        folder = cli.make_run_folder(config.output, f"rlhf_{config.policy}")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    return cli.report_end(folder, lambda: run(config, folder, console))


def run(config: Config, folder: Path, console: rich.console.Console) -> int:
    """Trains, compares and leaves everything in `folder`; returns the exit status."""
    cli.write_config(folder, dataclasses.asdict(config), version=rljax.__version__)
    start = time.perf_counter()
    problem = make_problem(config)
    key_agents, key_train, key_proxy = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), 1), 3
    )
    agents = make_agents(config, problem, key_agents)
    count = len(agents) * len(config.kl_coefs) * config.num_seeds
    cli.say(
        console,
        f"{len(agents)} algorithms × {len(config.kl_coefs)} prices × "
        f"{config.num_seeds} seeds × {config.num_updates} updates = {count} runs; "
        f"{problem.log_probs.size:,} sequences",
    )
    with warnings.catch_warnings():
        # DPO learns from pairs that are given, so its environment steps are nothing to
        # compare by.
        warnings.filterwarnings("ignore", "settings differ in environment steps")
        result = rljax.sweep(
            agents,
            problem.env,
            key_train,
            num_seeds=config.num_seeds,
            num_updates=config.num_updates,
            settings={"agent": list(agents), "kl_coef": list(config.kl_coefs)},
            measure=optimum.measure,
            callbacks=[writers.ProgressBar(console)],
        )
    proxies = overoptimize(config, problem, agents["RLOO"], key_proxy, console)
    write_runs(folder / "runs.csv", result)
    draw(folder / "rlhf.png", config, problem, result, proxies)
    console.print(summary_table(result))
    cli.say(console, overoptimization_text(config, proxies))
    cli.say(
        console,
        f"{time.perf_counter() - start:.0f} s, compilation included. Saved in {folder}",
    )
    return 0


class Overoptimization(NamedTuple):
    """What comes of believing in rewards that were fitted to few preferences.

    Pairs of what the proxies say and what is true: [num_proxies, K] of the proxies'
    exact optima over prices, and [some proxies, prices] of runs trained on them.
    """

    optima: tuple[Alignment, Alignment]
    runs: tuple[Alignment, Alignment]


def overoptimize(
    config: Config, problem: Problem, agent: Any, key: jax.Array, console: Any
) -> Overoptimization:
    """Fits rewards to preferences, and trains on some of them at several prices."""
    key_fit, key_train = jax.random.split(key)
    proxies = fit_proxies(config, problem, key_fit)
    # As tables: the same numbers without the network behind them.
    size = problem.env.vocabulary_size
    tables = [
        rewards.TableReward(proxy, size) for proxy in proxies[:NUM_TRAINED_PROXIES]
    ]
    result = rljax.sweep(
        agent,
        dataclasses.replace(problem.env, reward=tables[0]),
        key_train,
        num_seeds=1,
        num_updates=config.num_updates,
        settings={"env.reward": tables, "kl_coef": list(PROXY_KL_COEFS)},
        callbacks=[writers.ProgressBar(console)],
    )
    states = jax.tree.map(
        lambda *leaves: np.concatenate(leaves),
        *(outcome.agent_state for outcome in result.outcomes),
    )

    @jax.jit
    def of_optima():
        best = jax.vmap(lambda proxy: optima(problem.log_probs, proxy))(proxies)
        return believed_and_true(problem, best, proxies)

    @jax.jit
    def of_runs(states):
        learned = jax.vmap(
            lambda state: optimum.log_probs_of(agent, state, problem.env)
        )(states)
        learned = learned.reshape(len(tables), -1, *learned.shape[1:])
        return believed_and_true(problem, learned, proxies[: len(tables)])

    return Overoptimization(of_optima(), of_runs(states))


def fit_proxies(config: Config, problem: Problem, key: jax.Array) -> jax.Array:
    """[num_proxies, P, V^H] rewards of models fitted to preferences of their own."""
    env, reference = problem.env, problem.log_probs
    network = causal.MLP(env.vocabulary_size, env.horizon, env.num_prompts, outputs=1)
    true = env.sequence_rewards()

    @jax.jit
    @jax.vmap
    def fit(key):
        key_pairs, key_fit = jax.random.split(key)
        pairs = preferences.sample_preferences(
            env, reference, key_pairs, num_pairs=config.num_proxy_pairs
        )
        model, _ = preferences.fit_reward_model(network, pairs, key_fit)
        proxy = dataclasses.replace(env, reward=model).sequence_rewards()
        # Preferences fix differences alone: as much on the average as is true.
        error = jnp.sum(jnp.exp(reference) * (true - proxy), axis=-1, keepdims=True)
        return proxy + error

    return fit(jax.random.split(key, config.num_proxies))


def alignment(problem: Problem, log_probs: jax.Array, reward: jax.Array) -> Alignment:
    """Exact KL from the reference and expected reward of a policy [P, V^H]."""
    found = optimum.sequence_objective(log_probs, problem.log_probs, reward, 0.0)
    return Alignment(found.kl, found.expected_reward)


def believed_and_true(
    problem: Problem, log_probs: jax.Array, proxies: jax.Array
) -> tuple[Alignment, Alignment]:
    """[N, K] of policies [N, K, P, V^H], by N proxies and by the true reward."""

    def exact(log_probs, reward):
        return alignment(problem, log_probs, reward)

    over_points = jax.vmap(exact, (0, None))
    true = problem.env.sequence_rewards()
    return (
        jax.vmap(over_points)(log_probs, proxies),
        jax.vmap(over_points, (0, None))(log_probs, true),
    )


PRICES = np.logspace(2, -3, 101)


def optima(log_probs: jax.Array, reward: jax.Array) -> jax.Array:
    """[K, P, V^H] log π* of prices from dear to next to nothing."""
    return jax.vmap(lambda beta: optimum.optimal_log_probs(log_probs, reward, beta))(
        jnp.asarray(PRICES)
    )


def draw(
    path: Path,
    config: Config,
    problem: Problem,
    result: rljax.SweepResult,
    proxies: Overoptimization,
) -> None:
    """Draws the picture of all that was found."""
    reward = problem.env.sequence_rewards()

    def exact(log_probs):
        return alignment(problem, log_probs, reward)

    prices = {}
    for beta in config.kl_coefs:
        best = optimum.optimal_log_probs(problem.log_probs, reward, beta)
        prices[beta] = tuple(map(float, exact(best)))
    by_agent: dict[str, list[Any]] = {}
    for outcome in result.outcomes:
        by_agent.setdefault(outcome.setting["agent"], []).append(outcome.metrics.agent)
    plotting.save_alignment(
        path,
        jax.vmap(exact)(optima(problem.log_probs, reward)),
        {
            name: Alignment(
                np.concatenate([m["exact_kl"][:, -1] for m in found]),
                np.concatenate([m["exact_reward"][:, -1] for m in found]),
            )
            for name, found in by_agent.items()
        },
        {
            name: np.concatenate([relative_gap(m) for m in found])
            for name, found in by_agent.items()
        },
        proxies.optima,
        proxies.runs,
        prices=prices,
        title=f"{config.reward} reward, {config.policy} policy, {config.num_seeds} "
        "seeds for each algorithm and price",
    )


def percent(share: float) -> str:
    """Of 100: two decimals below 10, one below 100, else none."""
    value = 100 * share
    return f"{value:.{2 - (value >= 10) - (value >= 100)}f}"


def relative_gap(found: Any) -> np.ndarray:
    """[num_seeds, num_updates] (J(π*) − J(π)) / |J(π*)|."""
    return found["exact_gap"] / np.abs(found["exact_optimum"])


def write_runs(path: Path, result: rljax.SweepResult) -> None:
    """One row per run: where it ended."""
    names = [n for n in result.outcomes[0].metrics.agent if n.startswith("exact_")]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["algorithm", "kl_coef", "seed", *names])
        for outcome in result.outcomes:
            found = outcome.metrics.agent
            for seed in range(len(outcome.fault_updates)):
                values = [f"{found[name][seed, -1]:.6g}" for name in names]
                writer.writerow([*outcome.setting.values(), seed, *values])


def overoptimization_text(config: Config, proxies: Overoptimization) -> str:
    """What proxies promise and what is true, as they are taken more at their word."""
    at = int(np.abs(PRICES - 1.0).argmin())
    changes = []
    for curve in proxies.optima:
        rewards_ = np.asarray(curve.reward)
        gain = rewards_[:, [-1]] - rewards_[:, [at]]
        rise, low, high = statistics.mean_interval(gain)
        changes.append(f"{rise[0]:+.2f} [{low[0]:+.2f}, {high[0]:+.2f}]")
    believed, true = (np.asarray(curve.reward)[:, at] for curve in proxies.optima)
    return (
        f"Learned rewards: of their exact optima at β = {PRICES[at]:.2g}, "
        f"{config.num_proxies} reward models of {config.num_proxy_pairs} preferences "
        f"each think {believed.mean():.2f}, the truth is {true.mean():.2f}. As β falls "
        f"to {PRICES[-1]:g}, their opinion changes by {changes[0]}, the truth by "
        f"{changes[1]} (means and 95 % intervals over the models)."
    )


def summary_table(result: rljax.SweepResult) -> rich.table.Table:
    """Where each algorithm ended at each price, against the exact optimum."""
    table = rich.table.Table(title=r"Exact J(π) = E\[r] − β KL(π‖π_ref) after training")
    table.add_column("algorithm", no_wrap=True)
    for heading in ("β", "J(π*)", "gap, %", "≤ 2 %", r"E\[r]", "KL"):
        table.add_column(heading, justify="right", no_wrap=True)
    last = None
    num_seeds = len(result.outcomes[0].fault_updates)
    for outcome in result.outcomes:
        name = outcome.setting["agent"]
        if last not in (None, name):
            table.add_section()
        found = {k: v[:, -1] for k, v in outcome.metrics.agent.items()}
        gaps = relative_gap(outcome.metrics.agent)[:, -1]
        low, high = statistics.bootstrap_interval(gaps)
        middle = statistics.interquartile_mean(gaps)
        means = {k: statistics.interquartile_mean(v) for k, v in found.items()}
        table.add_row(
            "" if name == last else name,
            f"{outcome.setting['kl_coef']:g}",
            f"{means['exact_optimum']:.3f}",
            f"{percent(middle)} [{percent(low)}, {percent(high)}]",
            f"{(gaps <= MARGIN).sum()}/{len(gaps)}",
            f"{means['exact_reward']:.2f}",
            f"{means['exact_kl']:.2f}",
        )
        last = name
    table.caption = (
        f"Interquartile means over {num_seeds} seeds; gap: J(π*) − J(π) in % of "
        "|J(π*)|, with its 95 % bootstrap interval. GRPO published: k3 in the loss, "
        "beside advantages over their deviation. DPO sees one set of preferences "
        "between sequences of the reference instead of rewards."
    )
    return table
