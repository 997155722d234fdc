"""What a command left in its folder, as objects: `rljax.load_run`."""

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import rljax
from rljax import checks
from rljax.experiment import cli
from rljax.experiment.checkpoint import CheckpointError, Checkpoints
from rljax.experiment.results import Outcome, SweepResult
from rljax.training import Metrics, TrainState
from rljax.types import Agent, EnvLike

LOADABLE = ("train", "sweep")


@dataclasses.dataclass(frozen=True)
class Run:
    """One trained run: of a setting, with a seed."""

    agent: Agent
    env: EnvLike
    train_state: TrainState
    """Where training stopped."""
    metrics: Metrics
    """[num_updates]."""
    setting: str
    """The setting's label."""
    seed: int
    result: SweepResult
    """All settings and seeds, without their evaluations, which evaluation.csv has."""

    def __repr__(self) -> str:
        return (
            f"Run({type(self.agent).__name__} on {type(self.env).__name__}, "
            f"{self.setting}, seed {self.seed} of {len(self.result.scores[0])}, "
            f"{len(self.metrics.num_episodes)} updates)"
        )

    @property
    def agent_state(self) -> Any:
        """The best one, where training kept it, else the last."""
        state = self.train_state
        return state.agent_state if state.best == () else state.best.agent_state

    def policy(self, obs: Any) -> Any:
        """The greedy action for one observation; jit and vmap it as you like."""
        return self.agent.greedy(self.agent_state, obs)

    def export(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The greedy policy of one observation as a program: `jax.export`.

        It holds the parameters and needs neither rljax nor this agent's code:
        `jax.export.deserialize(Path(path).read_bytes()).call(obs)`.

        Args:
          path: file to write the serialised program to; None: it is only returned.

        Returns:
          The `jax.export.Exported`, for CPUs, CUDA and TPUs.

        Raises:
          FileExistsError: the file exists.
        """
        obs = jax.eval_shape(lambda: self.env.reset(jax.random.key(0))[1])
        program = jax.export.export(
            jax.jit(self.policy), platforms=["cpu", "cuda", "tpu"]
        )(obs)
        if path is not None:
            with open(checks.path("path", path), "xb") as file:
                file.write(program.serialize())
        return program

    def save_weights(self, path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
        """Writes what the agent has learned as NumPy arrays, one .npz file.

        Args:
          path: file to write, which must not exist.

        Returns:
          The arrays by name: as in the file, `np.load(path)[name]`.

        Raises:
          FileExistsError: the file exists.
        """
        learned = self.agent.learned(self.agent_state)
        leaves = jax.tree_util.tree_leaves_with_path(learned)
        arrays = {_name(at): np.asarray(leaf) for at, leaf in leaves}
        with open(checks.path("path", path), "xb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        return arrays


def load_run(
    folder: str | os.PathLike[str],
    *,
    setting: int | str | Mapping[str, Any] | None = None,
    seed: int = 0,
    fall_back: bool = False,
) -> Run:
    """A run that `rljax train` or `rljax sweep` left in its folder. Needs extra `cli`.

        run = rljax.load_run("runs/2026-01-31_120000_PPO_CartPole-v1")
        run.policy(obs)  # the greedy action

    It is read from the last checkpoint, which takes some seconds: the state is checked
    against what the folder's configuration makes of it.

    Args:
      folder: of the run, with its config.json and checkpoints.
      setting: of a sweep, which of its settings, as `SweepResult` finds it; None: the
        best by the training's last returns.
      seed: which of the seeds, counted from 0.
      fall_back: whether to take an older checkpoint if the last one is damaged.

    Raises:
      FileNotFoundError: there is no such run.
      ValueError: the configuration can't be read, or there is no such seed.
      KeyError: there is no such setting.
      CheckpointError: there is no checkpoint that can be used.
    """
    folder = checks.path("folder", folder)
    config, name = _config(folder)
    command = importlib.import_module(f"rljax.commands.{name}")
    checkpoints = Checkpoints(folder / "checkpoints", fall_back=fall_back)
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(
            f"{folder} holds no checkpoint: the run ended before its first."
        )
    result = rljax.sweep(
        **command.swept(config, steps[-1]),
        key=jax.random.key(config.seed),
        num_seeds=config.num_seeds,
        keep_best=cli.keep_best(config.keep_best),
        checkpoints=checkpoints,
        resume=True,
    )
    outcome = _chosen(result, setting)
    seed = checks.integer("seed", seed, minimum=0, maximum=config.num_seeds - 1)
    state, metrics = jax.tree.map(
        lambda x: jnp.asarray(x[seed]), (outcome.train_state, outcome.metrics)
    )
    return Run(outcome.agent, outcome.env, state, metrics, outcome.label, seed, result)


def _chosen(result: SweepResult, setting: Any) -> Outcome:
    if setting is not None:
        return result[setting]
    return result[0] if len(result.outcomes) == 1 else result.best()


def _config(folder: Path) -> tuple[Any, str]:
    """The command's `Config`, as its flags were given, and the command's name."""
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(
            f"folder must be that of a run of `rljax train` or `rljax sweep`, with its "
            f"config.json, got {str(folder)!r}."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        name, arguments = content["subcommand"], content["arguments"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is no configuration of a run ({error!r}).") from None
    if name not in LOADABLE:
        raise ValueError(
            f"{folder} is a run of `rljax {name}`, which keeps no state; those of "
            "`rljax train` and `rljax sweep` do."
        )
    command = importlib.import_module(f"rljax.commands.{name}")
    try:
        return command.parse([str(x) for x in arguments]), name
    except SystemExit:
        raise ValueError(
            f"{path} has flags that this version of `rljax {name}` refuses: "
            f"{arguments}."
        ) from None


def _name(path: Any) -> str:
    """A leaf's name: params.actor.0.kernel, say."""
    return jax.tree_util.keystr(path, simple=True, separator=".")
