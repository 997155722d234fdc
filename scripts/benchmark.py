#!/usr/bin/env python
"""Races rljax against its neighbours and scalar NumPy loops, and checks their work.

python scripts/benchmark.py                              # all of it, some 12 minutes
python scripts/benchmark.py --suites ppo --repeats 3
python scripts/benchmark.py --quick --no-neighbours      # whether it runs at all
python scripts/benchmark.py --wheels wheels --profile trace     # on a GPU, no network

Every contender is a process with an environment of its own. The neighbours' (gymnax,
rejax and Stable-Baselines3) are made when they are first needed, from the package
index or, with --wheels, a folder (scripts/README.md says how). The contenders of a case
run in turn, and their medians are compared. What isn't equal between them is in
contenders/suites.py, and in the output.
"""

import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import rljax
from rljax.experiment import cli

try:
    import rich.console
    import tyro
except ImportError as error:
    sys.exit(f"{error}. Install the command-line extra: pip install -e '.[cli]'")

from contenders import host, ppo_suites, suites, tables, traces
from contenders.conditions import Setup
from contenders.rows import Row


@dataclasses.dataclass(frozen=True)
class Config:
    """Races rljax against its neighbours and scalar NumPy loops."""

    suites: tuple[str, ...] = tuple(suites.SUITES)
    """What to measure."""
    repeats: int = 5
    """Timed runs of each contender, in turn; the median counts."""
    seed: int = 0
    """Seed of all random keys."""
    output: Path | None = None
    """JSON file for everything measured, which must not exist yet."""
    environments: Path = Path("~/.cache/rljax-benchmark")
    """Folder of the neighbours' virtual environments, which are made if missing."""
    wheels: Path | None = None
    """Folder with one folder of wheels per neighbour, such as rejax/*.whl, that are
    used in place of virtual environments: beside this Python's own packages, and its
    JAX. Nothing is fetched."""
    profile: Path | None = None
    """New folder for a trace of one update of PPO, made after the suites; its kernels
    are listed by their time."""
    neighbours: bool = True
    """Whether they take part; else rljax and the NumPy loops alone."""
    quick: bool = False
    """Sizes so small that the figures mean nothing: for a test of the program."""
    sb3_steps: int = 50_000
    """Training steps of Stable-Baselines3, which runs once."""
    time_limit: float = 900.0
    """Seconds after which a contender that does not answer has failed."""

    def __post_init__(self):
        cli.check_flags(self, repeats=1, sb3_steps=1)
        for name in self.suites:
            if name not in suites.SUITES:
                known = ", ".join(suites.SUITES)
                raise ValueError(f"--suites must be among {known}, got {name!r}.")
        if not self.time_limit > 0:
            raise ValueError(f"--time-limit must be positive, got {self.time_limit}.")
        if self.wheels is not None and not self.wheels.expanduser().is_dir():
            raise FileNotFoundError(
                "--wheels must be a folder with one folder per neighbour, got "
                f"{self.wheels}."
            )
        if self.profile is not None and self.profile.exists():
            raise FileExistsError(
                f"--profile {self.profile} exists already: name a new folder."
            )
        if self.output is not None and self.output.exists():
            raise FileExistsError(f"--output {self.output} exists already.")
        if self.output is not None and not self.output.absolute().parent.is_dir():
            raise FileNotFoundError(f"--output {self.output} is in no folder.")


def main() -> int:
    try:
        config = tyro.cli(Config)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    try:
        return measure(config, console)
    except host.WorkerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def measure(config: Config, console: rich.console.Console) -> int:
    """Goes through the suites, and shows and writes each; returns the exit status."""
    with console.status("this machine's limits …"):
        limits, header = measure_limits(config)
    say_header(console, config, header, limits)
    homes, missing = find_neighbours(config, console)
    setup = Setup(
        repeats=config.repeats,
        seed=config.seed,
        quick=config.quick,
        platform=header["platform"],
        neighbours=homes,
        sb3_steps=config.sb3_steps,
        time_limit=config.time_limit,
    )
    rows: list[Row] = []
    for name in config.suites:
        with console.status(f"{name} …"):
            found = suites.SUITES[name](setup)
        rows += found
        console.print(tables.ratios(name, found) or name)
        console.print(tables.figures(found))
        if name in suites.LIMITS:
            console.print(suites.LIMITS[name](found, limits) or "", soft_wrap=True)
        console.print()
        # After every suite: what is done is not lost with what comes next.
        write(config, header, limits, rows)
    if config.profile is not None:
        with console.status("profile …"):
            row = ppo_suites.profile(setup, config.profile.absolute())
        found = traces.read(config.profile)
        row.facts["kernels"] = [kernel._asdict() for kernel in found]
        rows.append(row)
        console.print(tables.figures([row]))
        console.print(tables.kernels(f"{row.suite}, {row.case}", found))
        write(config, header, limits, rows)
    for line in suites.DIFFERENCES:
        console.print(line, soft_wrap=True, markup=False)
    failed = [f"{r.suite}, {r.contender}: {r.failed}" for r in rows if r.failed]
    for line in [*missing, *failed]:
        console.print(f"failed: {line}", soft_wrap=True, markup=False)
    return 1 if failed or missing else 0


def measure_limits(config: Config) -> tuple[dict[str, float], dict[str, Any]]:
    """What the machine can do, and what it and its software are."""
    idle = machine()
    task = {"task": "limits", "seed": config.seed}
    task["scale"] = 0.01 if config.quick else 1.0
    worker = host.Contender("limits", host.HERE / "limits_worker.py", task)
    result = host.race([worker], 1, time_limit=config.time_limit)["limits"]
    if result.failed:
        raise host.WorkerError(f"rljax does not run: {result.failed}")
    (ready,), (run,) = result.ready, result.runs
    limits = run["check"]
    if not limits["norm_kept"] or abs(limits["mean_word"] - 0.5) > 0.1:
        raise host.WorkerError(f"the limits' work was not done: {limits}")
    settings = dataclasses.asdict(config)
    for name in ("output", "environments", "wheels", "profile"):
        del settings[name]  # of this machine alone
    header = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        **idle,
        "platform": ready["platform"],
        "devices": ready["devices"],
        "card": ready["card"],
        "driver": driver(),
        "python": platform.python_version(),
        "rljax": rljax.__version__,
        "commit": commit(),
        "versions": ready["versions"],
        "settings": settings,
    }
    return limits, header


def machine() -> dict[str, Any]:
    """The processor, its cores, the memory, and how busy they are."""
    cpu, cores = platform.processor() or platform.machine(), os.cpu_count()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return {"cpu": cpu, "cores": cores, "memory_gib": memory, "load_average": load}


def driver() -> str | None:
    """The version of NVIDIA's driver, None where there is none."""
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.partition("\n")[0].strip() or None


def commit() -> str | None:
    """Of this checkout, with a + if it has changes; None outside one."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(host.ROOT), *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + "+" * bool(
            git("status", "--porcelain")
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def find_neighbours(
    config: Config, console: rich.console.Console
) -> tuple[dict[str, host.Home], list[str]]:
    """Those that are needed, and why some are missing."""
    homes, missing = {}, []
    needed = {n for suite in config.suites for n in suites.NEEDS.get(suite, ())}
    for name in host.NEIGHBOURS if config.neighbours else ():
        if name in needed:
            try:
                with console.status(f"the environment of {name} …"):
                    if config.wheels is None:
                        homes[name] = host.neighbour_home(name, config.environments)
                    else:
                        homes[name] = host.wheels_home(
                            name, config.environments, config.wheels
                        )
            except host.WorkerError as error:
                missing.append(f"{name}: {error}")
    return homes, missing


def say_header(console: Any, config: Config, header: dict, limits: dict) -> None:
    versions = ", ".join(f"{k} {v}" for k, v in header["versions"].items())
    card = f", driver {header['driver']}" if header["driver"] else ""
    console.print(
        f"{header['date']}, {header['cpu']}, {header['cores']} cores, "
        f"{header['memory_gib']:.0f} GiB, load {header['load_average']:.2f}; "
        f"{header['devices']}{card}\n"
        f"rljax {header['rljax']} ({header['commit']}), {versions}, Python "
        f"{header['python']}; medians of {config.repeats} runs in turn\n"
        f"limits: {limits['gflops']:.0f} GFLOP/s (float32, 128×64×64, one device), "
        f"{limits['words_per_second'] / 1e6:,.0f} M random words/s (all devices), "
        f"memory {limits['copy_gb_per_second']:.1f} GB/s",
        soft_wrap=True,
    )
    if config.quick:
        console.print("--quick: too little work is timed for the figures to mean much")


def write(config: Config, header: dict, limits: dict, rows: Sequence[Row]) -> None:
    """All that is known so far, as JSON."""
    if config.output is None:
        return
    content = {
        "header": header,
        "limits": limits,
        "differences": suites.DIFFERENCES,
        "rows": [row.as_json() for row in rows],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    config.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
