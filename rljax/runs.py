"""What the scripts share: a new folder for each run, its configuration, its end."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jax

from rljax import struct


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
    """Writes config.json: `config`, with what it takes to run it again.

    Args:
      folder: of the run.
      config: by name; what JSON does not know is written as a string.
      version: rljax.__version__.
    """
    content = {
        "command": [sys.executable, *sys.argv],
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
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def check_flags(config: Any, **minima: int) -> None:
    """Checks integer flags of a command line, None apart, and its seed.

    Raises:
      TypeError, ValueError: names the flag, the value and what would be right.
    """
    for name, minimum in {**minima, "seed": 0}.items():
        value = getattr(config, name)
        if value is not None:
            struct.check_int(f"--{name.replace('_', '-')}", value, minimum=minimum)
    if config.seed >= 2**32:
        raise ValueError(f"--seed must be below 2**32, got {config.seed}.")


def report_end(folder: Path, run: Callable[[], int]) -> int:
    """The exit status of `run()`; where it is stopped or can't write, says so.

    Interrupted, by KeyboardInterrupt or its own status 130, the process ends at once.
    """
    try:
        status = run()
    except KeyboardInterrupt:
        print(f"Stopped at once. What had been written is in {folder}")
        status = 130
    except OSError as error:
        print(f"error: {error}. What had been written is in {folder}", file=sys.stderr)
        return 1
    if status == 130:
        # Without the interpreter's shutdown, which crashes under a running compilation.
        sys.stdout.flush()
        os._exit(status)
    return status


def _describe(value: Any) -> str:
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)
