"""How results show themselves: short, in a terminal and as a table in a notebook.

A class gets both by `__repr__ = display.text` and `_repr_html_ = display.html`.
"""

import contextlib
import dataclasses
import html as html_
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_LONGEST = 72


def text(self: Any) -> str:
    """One line for each field: its name, and what it holds in a few words."""
    rows = [f"  {name}: {value}" for name, value in fields_of(self)]
    return "\n".join([f"{type(self).__name__}(", *rows, ")"])


def html(self: Any) -> str:
    """The same as a table."""
    return table((type(self).__name__, ""), fields_of(self))


def table(heading: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table; every cell is text."""

    def line(cells, tag):
        style = ' style="text-align: left"'
        made = (f"<{tag}{style}>{html_.escape(str(x))}</{tag}>" for x in cells)
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(heading, 'th')}</thead><tbody>{body}</tbody></table>"


def fields_of(obj: Any) -> list[tuple[str, str]]:
    """What each field holds, and each property that the class names in `_also`."""
    if dataclasses.is_dataclass(obj):
        names = [field.name for field in dataclasses.fields(obj)]
    else:
        names = list(obj._fields)
    rows = [(name, in_words(getattr(obj, name))) for name in names]
    for name in getattr(obj, "_also", ()):
        # Where it holds shapes alone, say, there is nothing to compute it from.
        with contextlib.suppress(TypeError, AttributeError):
            rows.append((name, in_words(getattr(obj, name))))
    return rows


def in_words(value: Any) -> str:
    """A number as it is, an array by dtype, shape and range, a tree by its size."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _array_in_words(value)
    if isinstance(value, dict) and value:
        found = {_array_in_words(x, of_values=False) for x in jax.tree.leaves(value)}
        kinds = found.pop() if len(found) == 1 else f"{len(value)} entries"
        return _short(f"{kinds} by name: {', '.join(map(str, value))}")
    leaves = jax.tree.leaves(value)
    if type(value) is tuple and value:
        return _short(f"({', '.join(map(in_words, value))})")
    if leaves and leaves[0] is not value:
        arrays = [x for x in leaves if hasattr(x, "shape")]
        numbers = sum(int(np.size(x)) for x in arrays)
        count = f"{len(arrays)} array{'s' * (len(arrays) != 1)}"
        return f"{type(value).__name__} of {count}, {numbers:,} numbers"
    return _short(" ".join(repr(value).split()))


def _array_in_words(x: Any, *, of_values: bool = True) -> str:
    if not hasattr(x, "dtype"):
        return type(x).__name__
    kind = f"{x.dtype}{list(x.shape)}"
    shown = of_values and isinstance(x, jax.Array | np.ndarray | np.generic)
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    if not shown or isinstance(x, Tracer) or is_key or not x.size:
        return kind
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return kind
    values = np.asarray(x)
    if values.ndim == 0:
        return f"{values.item():.6g}" if values.dtype.kind == "f" else str(values)
    if values.dtype.kind == "b":
        return f"{kind}, {values.sum()} true"
    if values.dtype.kind not in "iuf":
        return kind
    missing = np.isnan(values)
    seen = values[~missing]
    if not seen.size:
        return f"{kind}, all NaN"
    words = f"{kind}, {seen.min():.6g} to {seen.max():.6g}"
    if values.dtype.kind == "f":
        words += f", mean {seen.mean(dtype=float):.6g}"
    return words + f", {missing.sum()} NaN" * bool(missing.any())


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 2]} …"
