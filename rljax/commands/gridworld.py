"""Plans and learns on a grid: values, policies, and the exact regret while it learns.

rljax gridworld                            # the 5×5 grid, Q-learning
rljax gridworld --env CliffWalking --agent sarsa --step-size 0.5
rljax gridworld --map my_map.txt --env-kwargs slip 0.1
"""

import csv
import dataclasses
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Literal

import jax
import matplotlib  # noqa: F401 (missed now, not after the work)
import numpy as np
import optax
import rich.console
import rich.table
import tyro

import rljax
from rljax import parallel, plotting
from rljax.experiment import cli, statistics
from rljax.tabular import exploration, planning, regret

AGENTS = {
    "q-learning": rljax.QLearning,
    "sarsa": rljax.Sarsa,
    "expected-sarsa": rljax.ExpectedSarsa,
    "double-q-learning": rljax.DoubleQLearning,
}
RULES = {
    "epsilon-greedy": exploration.EpsilonGreedy,
    "softmax": exploration.Softmax,
    "ucb": exploration.UCB,
    "ucb1": exploration.UCB1,
}

PARAMETERS = {
    "epsilon-greedy": ("epsilon", "ε"),
    "softmax": ("temperature", "τ"),
    "ucb": ("c", "c"),
    "ucb1": ("scale", "scale"),
}
"""Of each rule: the name of its field, and the usual one."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Plans and learns on a grid: values, policies, and the exact regret."""

    env: str = "GridWorld-5x5"
    """Name of a grid, as for rljax.make."""
    map: Path | None = None
    """File with a map of your own instead: . free, # wall, A start, G goal, P pit,
    C cliff."""
    env_kwargs: dict[str, float] = dataclasses.field(default_factory=dict)
    """Settings of the grid, name and value in turn: slip 0.1 step_reward -0.04."""
    agent: Literal["q-learning", "sarsa", "expected-sarsa", "double-q-learning"] = (
        "q-learning"
    )
    """Learning rule."""
    step_size: float | None = None
    """α in [0, 1]. None: 0.1, or on a grid that slips, where a constant α never comes
    to rest, from 0.5 at first in a straight line to 0 at the end."""
    discount: float = 0.99
    """γ in [0, 1)."""
    exploration: Literal["epsilon-greedy", "softmax", "ucb", "ucb1"] = "epsilon-greedy"
    """Exploration rule."""
    parameter: float | None = None
    """The rule's ε, τ, c or scale; None: its default."""
    num_steps: int | None = None
    """Environment steps of each seed. None: 500 for each cell of the grid, or 16,000 if
    it slips."""
    num_points: int = 80
    """Points of the regret curve; divides num_steps."""
    num_seeds: int = 100
    """Independent runs, trained side by side."""
    seed: int = 0
    """Seed of the random key that all runs are split from."""
    output: Path = Path("runs")
    """Folder in which the run gets a new folder of its own."""

    def __post_init__(self):
        cli.check_flags(self, num_steps=1, num_points=1, num_seeds=1)
        if self.num_steps is not None and self.num_steps % self.num_points:
            raise ValueError(
                f"--num-points must divide --num-steps = {self.num_steps}, got "
                f"{self.num_points}."
            )
        if not 0 <= self.discount < 1:
            raise ValueError(
                f"--discount must be in [0, 1), got {self.discount}: without "
                "discounting, a policy that never ends has no return."
            )


def make_env(config: Config) -> tuple[Any, rljax.GridWorld]:
    """The environment, and the grid inside its time limit."""
    kwargs: dict[str, Any] = dict(config.env_kwargs)
    if "max_steps" in kwargs:
        max_steps = kwargs["max_steps"]
        if not float(max_steps).is_integer():
            raise ValueError(f"max_steps must be a whole number, got {max_steps}.")
        kwargs["max_steps"] = int(max_steps)
    if config.map is None:
        env = rljax.make(config.env, **kwargs)
    else:
        try:
            text = config.map.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--map must be a text file: {error}.") from None
        env = rljax.GridWorld.from_text(text, **kwargs)
    grid = env.env if isinstance(env, rljax.TimeLimit) else env
    if not isinstance(grid, rljax.GridWorld):
        raise ValueError(f"--env must be a grid, got {config.env!r}.")
    return env, grid


def make_agent(config: Config, grid: rljax.GridWorld) -> Any:
    """The agent that the flags describe, or that suits the grid where they are None."""
    num_steps, step_size = config.num_steps, config.step_size
    if num_steps is None:
        per_cell = 16_000 if grid.slip else 500
        num_steps = per_cell * grid.observation_space.n
    rollout_length = -(-num_steps // config.num_points)
    if step_size is None:
        falling = optax.linear_schedule(0.5, 0.0, rollout_length * config.num_points)
        step_size = falling if grid.slip else 0.1
    rule = RULES[config.exploration]
    return AGENTS[config.agent](
        step_size=step_size,
        discount=config.discount,
        exploration=rule() if config.parameter is None else rule(config.parameter),
        rollout_length=rollout_length,
    )


def main() -> int:
    """Runs the command with the flags of `sys.argv`; returns the exit status."""
    config = tyro.cli(Config)
    parallel.use_cpu_cores(config.num_seeds)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            env, grid = make_env(config)
        agent = make_agent(config, grid)
        name = config.env if config.map is None else config.map.stem
        folder = cli.make_run_folder(config.output, f"{config.agent}_{name}")
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    for warning in caught:  # about the map, not about a line of code
        cli.say(console, f"warning: {warning.message}")
    return cli.report_end(
        folder, lambda: run(config, agent, env, grid, folder, console)
    )


def run(
    config: Config,
    agent: Any,
    env: Any,
    grid: rljax.GridWorld,
    folder: Path,
    console: rich.console.Console,
) -> int:
    """Plans, learns and leaves everything in `folder`; returns the exit status."""
    content = dataclasses.asdict(config) | {"layout": grid.layout}
    cli.write_config(folder, content, version=rljax.__version__)
    is_small = grid.observation_space.n <= 200
    mdp = grid.to_mdp(sparse=not is_small)
    plan = planning.value_iteration(mdp, config.discount)
    console.print(f"Value iteration: {plan.num_iterations} sweeps, values and policy")
    cli.say(
        console,
        beside(grid.render_values(plan.values), grid.render_policy(plan.policy)),
    )

    def train(key):
        state, _, curve = regret.train_with_exact_returns(
            agent,
            env,
            key,
            num_updates=config.num_points,
            mdp=mdp,
            method="solve" if is_small else "iterative",
        )
        return agent.action_values(state.agent_state), curve

    start = time.perf_counter()
    with console.status("compiling and learning …"):
        keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
        q_values, curve = jax.device_get(parallel.map_seeds(train)(keys))
    seconds = time.perf_counter() - start
    steps = curve.num_updates[0] * agent.rollout_length
    cli.say(console, f"\nLearned by {config.agent} in {steps[-1]:,} steps, first seed")
    greedy = q_values[0].argmax(-1)
    cli.say(
        console,
        beside(grid.render_values(q_values[0].max(-1)), grid.render_policy(greedy)),
    )
    write_curve(folder / "regret.csv", steps, curve)
    plotting.save_gridworld(
        folder / "gridworld.png",
        grid,
        plan,
        q_values[0],
        steps,
        curve,
        title=heading(config, agent),
    )
    console.print(regret_table(steps, curve))
    for words in advice(agent, q_values, curve):
        cli.say(console, words)
    cli.say(console, f"{seconds:.1f} s, compilation included. Saved in {folder}")
    return 0


def heading(config: Config, agent: Any) -> str:
    """What was run, in one line."""
    name = config.env if config.map is None else config.map.name
    alpha = "α falling" if callable(agent.step_size) else f"α = {agent.step_size:g}"
    value = getattr(agent.exploration, PARAMETERS[config.exploration][0])
    rule = f"{config.exploration}, {PARAMETERS[config.exploration][1]} = {value:g}"
    return (
        f"{config.agent} on {name}: {alpha}, γ = {config.discount:g}, "
        f"{rule}, {config.num_seeds} seeds"
    )


def advice(agent: Any, q_values: np.ndarray, curve: Any) -> list[str]:
    """What to try where learning did not start, or not get far."""
    num_seeds = len(q_values)
    untouched = (q_values == agent.initial_value).all(axis=(1, 2))
    if untouched.any():
        return [
            f"note: {untouched.sum()} of {num_seeds} seeds never saw a reward other "
            "than 0, so there was nothing to learn from. Let them look for longer "
            "(--num-steps) or further (--parameter, --exploration ucb), or make each "
            "step cost something (--env-kwargs step_reward -0.01)."
        ]
    stuck = curve.greedy_regret[:, -1] >= curve.greedy_regret[:, 0]
    stuck &= curve.greedy_regret[:, 0] > 0
    if stuck.any():
        return [
            f"note: in {stuck.sum()} of {num_seeds} seeds the greedy policy is no "
            "better than before training. Try more steps (--num-steps), larger ones "
            "(--step-size) or another exploration (--exploration, --parameter)."
        ]
    return []


def beside(left: str, right: str) -> str:
    """Two blocks of lines, side by side."""
    pairs = zip(left.splitlines(), right.splitlines(), strict=True)
    return "\n".join(f"{a}    {b}" for a, b in pairs)


def write_curve(path: Path, steps: np.ndarray, curve: Any) -> None:
    """One row per seed and point."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        header = ["seed", "steps", "greedy_return", "behaviour_return"]
        writer.writerow([*header, "optimal_return"])
        for (seed, k), greedy in np.ndenumerate(curve.greedy):
            numbers = (greedy, curve.behaviour[seed, k], curve.optimal[seed])
            writer.writerow([seed, steps[k], *(f"{x:.7g}" for x in numbers)])


def regret_table(steps: np.ndarray, curve: Any) -> rich.table.Table:
    """The exact regret over seeds at some ten times, with a bar for each."""
    greedy, behaviour = curve.greedy_regret, curve.behaviour_regret
    num_seeds = len(greedy)
    table = rich.table.Table(title="Exact regret J(π*) − J(π_k), mean over seeds")
    for heading in ("steps", "greedy policy", "", "behaviour", "optimal seeds"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    mean, low, _ = statistics.mean_interval(greedy)
    for k in np.unique(np.linspace(0, len(steps) - 1, 11).astype(int)):
        is_optimal = greedy[:, k] <= 1e-4 * max(1.0, abs(float(curve.optimal[0])))
        table.add_row(
            f"{steps[k]:,}",
            f"{mean[k]:.4f}" + (f" ± {mean[k] - low[k]:.4f}" if num_seeds > 1 else ""),
            "█" * round(20 * max(float(mean[k] / max(mean.max(), 1e-9)), 0.0)),
            f"{behaviour[:, k].mean():.4f}",
            f"{is_optimal.sum()} of {num_seeds}",
        )
    interval = f"± half of the 95 % interval over {num_seeds} seeds. "
    table.caption = (
        f"{interval if num_seeds > 1 else ''}From the model: no "
        "evaluation noise. A seed is optimal where its greedy policy's regret is at "
        "most 1e-4 of the optimal return (of 1, if that is larger)."
    )
    return table
