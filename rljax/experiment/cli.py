"""What the scripts share: flags, a new folder for each run, and its exit status."""

import csv
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rljax import checks
from rljax.evaluation import KeepBest
from rljax.experiment import settings, signals
from rljax.experiment.checkpoint import CheckpointError, Checkpoints
from rljax.experiment.results import Outcome, SweepResult

INTERRUPTED = 128 + signal.SIGINT
"""What a run returns that a signal has stopped: the exit status for Ctrl-C."""


@dataclasses.dataclass(frozen=True)
class CheckpointFlags:
    """Flags of a script that saves checkpoints and resumes from them."""

    resume: Path | None = None
    """Folder of a run to continue with its own configuration. Flags given in addition
    override that configuration, such as --num-updates to train for longer."""
    save_interval: float = 60.0
    """Seconds between two checkpoints; one is also saved at the end, on Ctrl-C and on
    SIGTERM."""
    keep_checkpoints: int = 3
    """How many checkpoints to keep."""
    fall_back: bool = False
    """Go on from an older checkpoint if the last one is damaged."""

    def __post_init__(self):
        checks.integer("--keep-checkpoints", self.keep_checkpoints, minimum=1)
        if not self.save_interval >= 0:
            raise ValueError(
                f"--save-interval must be 0 seconds or more, got {self.save_interval}."
            )

    def build(self, folder: Path) -> Checkpoints:
        """The checkpoints of the run in `folder`."""
        return Checkpoints(
            folder / "checkpoints",
            keep=self.keep_checkpoints,
            interval=self.save_interval,
            fall_back=self.fall_back,
        )


@dataclasses.dataclass(frozen=True)
class TrainingFlags:
    """Flags of a script that trains with many seeds and then evaluates."""

    env: str = "CartPole-v1"
    """Name of the environment, as for rljax.make."""
    env_kwargs: dict[str, float] = dataclasses.field(default_factory=dict)
    """Parameters of the environment, name and value in turn: gravity 20."""
    num_seeds: int = 8
    """Independent runs (of each setting), trained side by side."""
    num_episodes: int = 100
    """Evaluation episodes per run."""
    greedy: bool = True
    """Whether the greedy policy plays them, or else the one that explores."""
    keep_best: int | None = None
    """Updates from one scoring of a run's parameters to the next: the best ones are
    kept and evaluated. None: the last ones are evaluated."""
    seed: int = 0
    """Seed of the random key that all runs are split from."""
    output: Path = Path("runs")
    """Folder in which the run gets a new folder of its own."""
    compilation_cache: Path | None = None
    """Folder that keeps compiled programs, so that the next run of the same shapes
    starts without compiling. None: JAX's own setting, JAX_COMPILATION_CACHE_DIR."""
    checkpoints: CheckpointFlags = dataclasses.field(default_factory=CheckpointFlags)


def arguments() -> list[str]:
    """The arguments of the command line.

    With `--resume`, the arguments of the run that it names come before them.

    Raises:
      FileNotFoundError, ValueError: `--resume` does not name a run of this script.
    """
    given = sys.argv[1:]
    named = [
        argument.partition("=")[2] if "=" in argument else following
        for argument, following in zip(given, [*given, ""][1:], strict=True)
        if argument.partition("=")[0] == "--resume"
    ]
    if named and named[-1]:
        folder = Path(named[-1])
        path = folder / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            name, saved = config["subcommand"], [str(x) for x in config["arguments"]]
        except OSError as error:
            raise FileNotFoundError(
                f"--resume must name the folder of a run, but {path} can't be read: "
                f"{error}."
            ) from None
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"--resume: {path} is no configuration of a run ({error!r})."
            ) from None
        if name != subcommand():
            raise ValueError(f"--resume: {folder} is a run of `rljax {name}`.")
        lengths = ("--num-updates", "--num-steps")
        if any(word.partition("=")[0] in lengths for word in given):
            saved = _without(saved, lengths)
        return [*saved, *given]
    return given


def subcommand() -> str:
    """The name of the command: train, of `rljax train` and of scripts/train.py."""
    return Path(sys.argv[0].removeprefix("rljax ")).stem


def program() -> list[str]:
    """The words that call this command on this machine, without its arguments."""
    if sys.argv[0].startswith("rljax "):
        return [sys.executable, "-m", "rljax", subcommand()]
    return [sys.executable, sys.argv[0]]


def cache_compilations(folder: Path | None) -> None:
    """Keeps what JAX compiles in a folder, for this process and later ones.

    JAX finds an entry by the program, the version of JAX and the kind of device.
    Nothing is deleted from the folder.

    Args:
      folder: created if it does not exist; None leaves JAX's settings as they are.

    Raises:
      OSError: the folder can't be created.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"--compilation-cache must be a folder that can be written to, got "
            f"{folder}: {error.strerror}."
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    # Every program is kept, even one that compiled quickly: with a threshold in
    # seconds, the machine's load would decide which programs a later process finds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def make_run_folder(output: Path, name: str) -> Path:
    """Makes the folder output/<date and time>_<name>, which did not exist before.

    Raises:
      OSError: `output` is a file or can't be written.
    """
    name = f"{datetime.now():%Y-%m-%d_%H%M%S}_{name}"
    for attempt in range(1, 1000):
        folder = output / (name if attempt == 1 else f"{name}_{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if output.is_dir():
                continue
            raise NotADirectoryError(
                f"--output must be a folder, but {output} is a file."
            ) from None
        except OSError as error:
            raise OSError(
                f"--output must be a folder that can be written: {error}. Choose "
                "another one."
            ) from None
        return folder
    raise FileExistsError(f"--output {output} is full of runs named {name}.")


def write_config(folder: Path, config: Mapping[str, Any], *, version: str) -> None:
    """Writes config.json: `config`, and the command, devices and versions of the run.

    Args:
      folder: the run's folder.
      config: values by name; those that JSON can't represent are written as strings.
      version: rljax.__version__.
    """
    given = _without(arguments(), ("--resume",))
    content = {
        "subcommand": subcommand(),
        "arguments": given,
        "command": [*program(), *given],
        **config,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "devices": [str(device) for device in jax.local_devices()],
        "versions": {
            "python": sys.version.split()[0],
            "jax": jax.__version__,
            "rljax": version,
        },
    }
    text = json.dumps(content, indent=2, default=_describe)
    path, new = folder / "config.json", folder / "config.json.new"
    try:
        new.write_text(text + "\n", encoding="utf-8")
        os.replace(new, path)  # never half written, not even on a full disk
    except OSError as error:
        new.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"{path} could not be written: {error.strerror}"
        ) from error


def _without(given: list[str], flags: Collection[str]) -> list[str]:
    """The arguments without these flags and the value of each."""
    kept = []
    following = False
    for argument in given:
        is_flag = argument.partition("=")[0] in flags
        if not following and not is_flag:
            kept.append(argument)
        following = is_flag and "=" not in argument
    return kept


def check_flags(config: Any, **minima: int) -> None:
    """Checks integer flags of a command line, unless they are None, and its seed.

    Raises:
      TypeError, ValueError: the message names the flag, its value and what is allowed.
    """
    for name, minimum in {**minima, "seed": 0}.items():
        value = getattr(config, name)
        if value is not None:
            checks.integer(f"--{name.replace('_', '-')}", value, minimum=minimum)
    if config.seed >= 2**32:
        raise ValueError(f"--seed must be below 2**32, got {config.seed}.")


def check_length(num_updates: int | None, num_steps: int | None) -> None:
    """Raises ValueError if both flags are given."""
    if num_updates is not None and num_steps is not None:
        raise ValueError(
            "--num-updates and --num-steps say the same, give one of them; got "
            f"{num_updates} and {num_steps}."
        )


def say(console: Any, text: str) -> None:
    """Prints a line to a rich console unchanged: not wrapped, with brackets as text."""
    console.print(text, soft_wrap=True, markup=False)


def say_interrupted(
    console: Any, folder: Path, result: SweepResult, total: int
) -> None:
    """Says how far an interrupted run has come and how to go on."""
    command = [*program(), "--resume", str(folder)]
    on_windows = os.name == "nt"
    words = subprocess.list2cmdline(command) if on_windows else shlex.join(command)
    say(
        console,
        f"Interrupted after {result.num_updates} of {total} updates, without the final "
        f"evaluation. What was done is in\n{folder}\nGo on with: {words}",
    )


def check_keep_best(every: int | None, num_updates: int) -> None:
    """Raises ValueError if the flag --keep-best would score no parameters."""
    if every is not None and every > num_updates:
        raise ValueError(
            f"--keep-best must be at most the number of updates, {num_updates}, got "
            f"{every}."
        )


def keep_best(every: int | None) -> KeepBest | None:
    """What the flag --keep-best asks for."""
    return None if every is None else KeepBest(every=every)


def evaluation_title(outcome: Outcome) -> str:
    """What the evaluation is called: which policy and which parameters played."""
    assert outcome.evaluation is not None
    policy = "Greedy evaluation" if outcome.evaluation.greedy else "Sampled evaluation"
    kept = outcome.train_state.best != ()
    return policy + " of the best parameters of each run" * kept


def write_evaluation(path: Path, result: SweepResult) -> None:
    """Writes every evaluation episode of every run as CSV."""
    names = list(result.outcomes[0].setting)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [*names, "seed", "episode", "episode_return", "episode_length", "finished"]
        )
        for outcome in result.outcomes:
            values = [settings.text(outcome.setting.get(name)) for name in names]
            evaluation = outcome.evaluation
            if evaluation is None:
                continue
            lengths, finished = evaluation.episode_lengths, evaluation.finished
            for at, value in np.ndenumerate(evaluation.episode_returns):
                writer.writerow([*values, *at, float(value), lengths[at], finished[at]])


def report_end(
    folder: Path, run: Callable[[], int], asked: signals.Asked | None = None
) -> int:
    """Calls `run` and returns its exit status, or prints its error and returns 1.

    After an interruption, by KeyboardInterrupt or with status INTERRUPTED, this does
    not return: the process ends with status 128 + the number of the signal, which
    `asked` knows if it was not Ctrl-C.
    """
    try:
        status = run()
    except KeyboardInterrupt:
        print(f"Stopped at once. What had been written is in {folder}")
        status = INTERRUPTED
    except (OSError, CheckpointError, MemoryError, FloatingPointError) as error:
        text = str(error).rstrip(".")
        print(f"error: {text}. What had been written is in {folder}", file=sys.stderr)
        return 1
    if status == INTERRUPTED:
        # This skips the interpreter's shutdown, which crashes during a compilation.
        sys.stdout.flush()
        number = asked.number if asked is not None else None
        os._exit(128 + (number or signal.SIGINT))
    return status


def _describe(value: Any) -> str:
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)
