"""Things to play with, on a page in the browser.

rljax lab                        # serves the page and opens the browser
rljax lab --port 8000 --no-browser
rljax lab record lesson.html     # a training in one file that needs no Python
"""

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Literal

import tyro

from rljax import parallel
from rljax.experiment import cli
from rljax.lab import page, recording, server

MOST_PORT = 65_535


@dataclasses.dataclass(frozen=True)
class Serve:
    """Serves a page to play with, and opens the browser. `rljax lab record FILE` writes
    one that needs no Python."""

    port: int = 5006
    """Port to listen on; 0: one that is free."""
    address: str = server.LOOPBACK
    """Address to listen on. The loopback address is reached from this machine alone;
    whoever reaches another one can let this machine compute."""
    origin: tuple[str, ...] = ()
    """Other host:port whose pages may connect, such as a proxy's."""
    browser: bool = True
    """Whether to open the browser."""

    def __post_init__(self):
        if not 0 <= self.port <= MOST_PORT:
            raise ValueError(f"--port must be from 0 to {MOST_PORT}, got {self.port}.")


@dataclasses.dataclass(frozen=True)
class Record:
    """Writes a training into one HTML file, to be scrubbed and played anywhere."""

    path: tyro.conf.Positional[Path]
    """The file, such as lesson.html."""
    tab: Literal["gridworld", "bandits", "pole", "rlhf"] = "gridworld"
    """What is recorded."""
    num_steps: int | None = None
    """Steps, pulls or updates of the training; None: as many as suit it."""
    num_frames: int = 150
    """Moments that are recorded, from the start to the end."""
    seed: int = 0
    """Of everything that is drawn."""

    def __post_init__(self):
        cli.check_flags(self, num_steps=1, num_frames=1)
        if self.seed > page.LARGEST_SEED:
            raise ValueError(
                f"--seed must be at most {page.LARGEST_SEED}, got {self.seed}."
            )


def main() -> int:
    """Reads the flags; serves until Ctrl-C, or records."""
    recorded = sys.argv[1:2] == ["record"]
    with contextlib.suppress(RuntimeError):  # JAX has started: it works without
        parallel.fuse_small_loops()
    try:
        if recorded:
            del sys.argv[1]
            return _record(tyro.cli(Record, prog="rljax lab record"))
        return _serve(tyro.cli(Serve, prog="rljax lab"))
    except (OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


def _serve(config: Serve) -> int:
    try:
        running = server.start(config.port, config.address, config.origin)
    except OSError as error:
        raise OSError(
            f"cannot listen on {config.address}:{config.port} ({error.strerror}). Is "
            "another page served there? Choose another --port; 0 takes a free one."
        ) from error
    url = f"http://{config.address}:{running.port}/"
    print(f"{url}  (Ctrl-C ends it)", flush=True)
    if config.browser and not server.open_browser(url):
        print("No browser was found here: open the address in one.", flush=True)
    running.run_until_shutdown()
    return 0


def _record(config: Record) -> int:
    if config.path.exists():
        raise ValueError(f"{config.path} is there already. Choose another name.")
    num_steps = config.num_steps or recording.KINDS[config.tab][1]
    recording.write(
        config.path,
        config.tab,
        num_steps=num_steps,
        num_frames=min(config.num_frames, num_steps),
        seed=config.seed,
    )
    size = config.path.stat().st_size / 2**20
    print(f"{config.path}: {size:.1f} MiB, opens in any browser.")
    return 0
