"""Networks of libraries whose modules hold their parameters: flax.nnx and Equinox.

Neither is imported here unless a user's network is one of its modules.
"""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_pytree_with_keys_class
class Parts:
    """A module taken apart: its parameters, and how to put it together again."""

    def __init__(self, params: Any, build: Any):
        """`build(params)` is the module; hashable, and equal for equal modules."""
        self.params = params
        self.build = build

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """The parameters are the only child."""
        return ((jax.tree_util.GetAttrKey("params"), self.params),), self.build

    @classmethod
    def tree_unflatten(cls, build: Any, children: Any) -> "Parts":
        """The same module with other parameters."""
        return cls(children[0], build)


@dataclasses.dataclass(frozen=True)
class Built:
    """A network, `init` and `apply`, from what builds a module.

    It is called for each seed, with `flax.nnx.Rngs` if its parameter is called `rngs`,
    else with a random key. What it returns is called with one observation.
    """

    make: Callable[..., Any]
    label: str = "network"
    """What messages call it."""

    def init(self, key: jax.Array, obs: Any) -> Parts:
        """The parameters of a new module.

        Raises:
          TypeError: what was built can't be called, or holds state besides parameters.
        """
        del obs
        names = _parameters(self.make)
        if "rngs" in names:
            from flax import nnx

            module = self.make(rngs=nnx.Rngs(key))
        elif "key" in names:
            module = self.make(key=key)
        else:
            module = self.make(key)
        if not callable(module):
            raise TypeError(
                f"{self.label} must build a module that is called with an "
                f"observation, built a {type(module).__name__}."
            )
        return (_of_nnx if _is_nnx(module) else _of_tree)(module, self.label)

    def apply(self, params: Parts, obs: Any) -> Any:
        """What the module returns for one observation."""
        return params.build(params.params)(obs)


def _parameters(make: Any) -> list[str]:
    while isinstance(make, functools.partial):
        make = make.func
    # A class of nnx has a metaclass that takes anything.
    function = make.__init__ if isinstance(make, type) else make
    return list(inspect.signature(function).parameters)


def builds_a_module(value: Any) -> bool:
    """Whether `value` is a class or a function, and no init/apply pair of its own."""
    kinds = (type, types.FunctionType, types.MethodType, functools.partial)
    return isinstance(value, kinds) and not hasattr(value, "apply")


@dataclasses.dataclass(frozen=True)
class _MergeNnx:
    graph: Any

    def __call__(self, params: Any) -> Any:
        from flax import nnx

        return nnx.merge(self.graph, params)


@dataclasses.dataclass(frozen=True)
class _Unflatten:
    structure: Any
    rest: tuple[Any, ...]
    """Leaves that are no arrays, such as an activation; None where there is one."""

    def __call__(self, params: list[Any]) -> Any:
        arrays = iter(params)
        leaves = [next(arrays) if x is None else x for x in self.rest]
        return jax.tree.unflatten(self.structure, leaves)


def _is_nnx(module: Any) -> bool:
    return any(cls.__module__.startswith("flax.nnx") for cls in type(module).__mro__)


def _of_nnx(module: Any, label: str) -> Parts:
    from flax import nnx

    graph, params, others = nnx.split(module, nnx.Param, ...)
    if jax.tree.leaves(others):
        raise TypeError(
            f"{label} must hold parameters alone, as agents carry no other state; "
            f"{type(module).__name__} holds {list(others)} besides."
        )
    return Parts(params, _MergeNnx(graph))


def _of_tree(module: Any, label: str) -> Parts:
    leaves, structure = jax.tree.flatten(module)
    arrays = [x for x in leaves if hasattr(x, "dtype")]
    for x in arrays:
        if not isinstance(x, jax.Array) or not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"{label} must hold parameters alone, floating arrays of JAX; "
                f"{type(module).__name__} holds a {type(x).__name__} of {x.dtype} "
                f"{list(x.shape)}. Make it a static field, or a constant in __call__."
            )
    rest = tuple(None if hasattr(x, "dtype") else x for x in leaves)
    return Parts(arrays, _Unflatten(structure, rest))
