"""The floating numbers of a function's arguments as one vector, with their names."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Vector:
    """The floating leaves, D numbers in all, of the arguments that `argnums` names.

    Raises:
      TypeError: a leaf is complex.
      ValueError: `argnums` names an argument that does not exist, one argument twice,
        or none with a floating number; or a number is not finite.
    """

    def __init__(self, args: Any, argnums: int | Sequence[int]):
        self.single = not isinstance(argnums, tuple | list)
        numbers: Any = [argnums] if self.single else argnums
        self.args = args
        for i in numbers:
            is_index = isinstance(i, int | np.integer) and not isinstance(i, bool)
            if not is_index or not -len(args) <= i < len(args):
                raise ValueError(
                    f"argnums must name some of the {len(args)} arguments by their "
                    f"numbers, got {i!r}."
                )
        self.argnums = tuple(int(i) % len(args) for i in numbers)
        if len(set(self.argnums)) != len(self.argnums):
            raise ValueError(f"argnums must name each argument once, got {argnums!r}.")
        chosen = tuple(args[i] for i in self.argnums)
        with_paths, self.structure = jax.tree_util.tree_flatten_with_path(chosen)
        self.leaves = [leaf for _, leaf in with_paths]
        self.floating = [i for i, x in enumerate(self.leaves) if _is_floating(x)]
        for leaf, (path, _) in zip(self.leaves, with_paths, strict=True):
            if np.iscomplexobj(leaf):
                raise TypeError(
                    f"{jax.tree_util.keystr(path)} of the arguments chosen is complex, "
                    "which is not supported: pass real and imaginary part."
                )
        if not sum(np.size(self.leaves[i]) for i in self.floating):
            raise ValueError(
                f"argnums={argnums!r} names no floating number to differentiate by."
            )
        self.names = [
            f"args[{self.argnums[path[0].idx]}]{jax.tree_util.keystr(path[1:])}"
            for path, _ in with_paths
        ]
        flat = [np.ravel(self.leaves[i]) for i in self.floating]
        self.leaf_of = np.repeat(self.floating, [x.size for x in flat])
        self.offsets = np.cumsum([0, *(x.size for x in flat)])
        self.start = jnp.asarray(np.concatenate(flat))
        if not np.isfinite(self.start).all():
            i = np.argmin(np.isfinite(self.start))
            raise ValueError(
                f"{self.label(i)} is {self.start[i]}: differences need finite numbers. "
                "Leave it out of what is differentiated by."
            )
        self.sizes = np.maximum(1.0, np.abs(np.concatenate(flat)))

    def arguments(self, x: jax.Array) -> list[Any]:
        """All of fn's arguments, with the vector's numbers in their places."""
        leaves = list(self.leaves)
        for k, i in enumerate(self.floating):
            part = x[self.offsets[k] : self.offsets[k + 1]]
            leaves[i] = part.reshape(np.shape(leaves[i]))
        chosen = jax.tree.unflatten(self.structure, leaves)
        args = list(self.args)
        for i, value in zip(self.argnums, chosen, strict=True):
            args[i] = value
        return args

    def label(self, i: Any) -> str:
        """What the i-th number is called: args[0]['w'][2, 3]."""
        leaf = self.leaf_of[i]
        within = i - self.offsets[self.floating.index(int(leaf))]
        index = np.unravel_index(within, np.shape(self.leaves[leaf]))
        place = f"[{', '.join(map(str, index))}]" if index else ""
        return self.names[leaf] + place

    def gradient_of(self, tree: Any) -> np.ndarray:
        """An oracle's gradient as a vector.

        Raises:
          TypeError, ValueError: its structure or a shape is not that of the arguments.
        """
        structure = jax.tree.structure(tree if not self.single else (tree,))
        if structure != self.structure:
            raise TypeError(
                f"oracle must return (value, gradient) with the gradient in the "
                f"structure {self.structure} of the arguments chosen, got {structure}."
            )
        flat = []
        leaves = jax.tree.leaves(tree)
        for i in self.floating:
            if np.shape(leaves[i]) != np.shape(self.leaves[i]):
                raise ValueError(
                    f"the oracle's gradient by {self.names[i]} has shape "
                    f"{np.shape(leaves[i])}, the argument {np.shape(self.leaves[i])}."
                )
            flat.append(np.ravel(np.asarray(leaves[i], np.float64)))
        return np.concatenate(flat)


def _is_floating(x):
    return jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating)
