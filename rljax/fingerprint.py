"""What must be the same for a run to go on from a checkpoint: as JSON, and compared."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rljax.checkpoint import CheckpointError
from rljax.settings import Expansion, label


def fingerprint(expansion: Expansion, num_seeds: int, key: jax.Array) -> dict[str, Any]:
    """Of a sweep: its settings, agents, environments, seeds and key."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if typed else key
    return {
        "settings": [label(setting) for setting in expansion.settings],
        "agents": [_describe(agent) for agent, _ in expansion.built],
        "envs": [_describe(env) for _, env in expansion.built],
        "num_seeds": num_seeds,
        "key": {"words": np.asarray(words).tolist(), "dtype": str(key.dtype)},
    }


def _describe(value: Any) -> Any:
    """A value as JSON, whatever its fields hold; arrays by their contents."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.repr]
        content = {name: _describe(getattr(value, name)) for name in fields}
        return {"class": type(value).__qualname__, **content}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, tuple | list):
        return [_describe(item) for item in value]
    return getattr(value, "__qualname__", type(value).__qualname__)


def check_same(folder: Any, there: Any, here: Any, path: str = "") -> None:
    """Raises CheckpointError where two fingerprints first differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in [*here, *there]:
            if name not in there or name not in here:
                raise CheckpointError(f"{folder} is of another kind of run: {name}.")
            check_same(folder, there[name], here[name], f"{path}.{name}".lstrip("."))
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for i, pair in enumerate(zip(there, here, strict=True)):
            check_same(folder, *pair, f"{path}[{i}]")
    elif there != here:
        raise CheckpointError(
            f"{folder} is of another run: {path} is {there!r} there and {here!r} here. "
            "Resume with the same, or choose another folder."
        )
