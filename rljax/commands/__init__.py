"""The command line: `rljax train`, `rljax sweep` and so on, one module for each.

They need the extra `cli`, `lab` an extra of its own, and are imported when they are
called.
"""

import codecs
import importlib
import sys

COMMANDS = {
    "train": "train an agent with many seeds at once and evaluate them",
    "sweep": "train over a grid of settings and compare them",
    "gridworld": "plan and learn on a grid, with the exact regret",
    "bandits": "compare exploration rules on many bandits",
    "lab": "play with agents that learn, on a page in the browser",
    "rlhf": "train policies on a reward less β × KL, beside the exact optimum",
}
_EXTRAS = {"lab": "lab"}
"""What a command needs, if not `cli`."""
# What a text says in letters that every encoding has.
_PLAIN = {
    **dict(zip("←↑→↓−–·×█", "<^>v--.x#", strict=True)),
    **{"…": "...", "±": "+-", "≤": "<=", "≥": ">=", "∞": "inf", "Σ": "sum"},
    **{"α": "alpha", "β": "beta", "γ": "gamma", "ε": "epsilon", "θ": "theta"},
    **{"λ": "lambda", "π": "pi", "σ": "sigma", "τ": "tau", "Δ": "Delta"},
}


def main(name: str | None = None) -> int:
    """Runs the command of this name, by default the first argument of the program.

    The command reads the other arguments from `sys.argv`.

    Returns:
      The exit status.
    """
    _write_what_can_be_written()
    if name is None:
        name, *rest = sys.argv[1:] or ["--help"]
        if name in ("-h", "--help"):
            print(_usage())
            return 0
        if name == "--version":
            import rljax

            print(f"rljax {rljax.__version__}")
            return 0
        if name not in COMMANDS:
            print(f"error: no command {name!r}.\n\n{_usage()}", file=sys.stderr)
            return 2
        sys.argv = [f"rljax {name}", *rest]
    try:
        command = importlib.import_module(f"rljax.commands.{name}")
    except ImportError as error:
        extra = _EXTRAS.get(name, "cli")
        print(
            f"error: {error}. Install the extra `{extra}`: pip install "
            f"'rljax-core[{extra}]', or pip install -e '.[{extra}]' in a checkout.",
            file=sys.stderr,
        )
        return 1
    return command.main()


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: rljax COMMAND [FLAGS]",
            "",
            *lines,
            "",
            "rljax COMMAND --help lists the flags of a command; rljax --version.",
        ]
    )


def _write_what_can_be_written() -> None:
    """Lets output whose encoding lacks a letter, as on Windows, have a plain one."""
    codecs.register_error("rljax.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and not _is_unicode(stream.encoding):
            reconfigure(errors="rljax.plain")


def _is_unicode(encoding: str | None) -> bool:
    """Whether an encoding has all letters."""
    return codecs.lookup(encoding or "ascii").name.startswith("utf")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "?") for letter in letters), error.end
