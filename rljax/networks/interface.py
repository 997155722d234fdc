"""The seam for anybody's network or encoder: an init/apply pair."""

import abc
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from rljax import modules, spaces
from rljax.networks.reading import reading_of
from rljax.types import EnvLike


@runtime_checkable
class Network(Protocol):
    """A user's network, static: two pure functions."""

    def init(self, key: jax.Array, obs: Any, /) -> Any:
        """Parameters for observations shaped as `obs`."""
        ...

    def apply(self, params: Any, obs: Any, /) -> Any:
        """The output for one observation."""
        ...


class SizedNetwork(abc.ABC):
    """A network that knows which observations it can read, and is asked by agents."""

    @abc.abstractmethod
    def check_observations(self, space: spaces.Space, label: str) -> None:
        """Raises ValueError where it can't read the observations of a space.

        `label` is what the message calls the network.
        """


def as_network(network: Any, label: str) -> Any:
    """`network` as an init/apply pair, or None; `label` is what messages call it.

    Raises:
      TypeError: it is neither such a pair nor what builds a module.
    """
    if modules.builds_a_module(network):
        network = modules.Built(network, label)
    is_class = isinstance(network, type)
    if network is not None and (is_class or not isinstance(network, Network)):
        raise TypeError(
            f"{label} must have init(key, obs) and apply(params, obs), as a "
            "flax.linen module has; or be a class or function that builds a module "
            "of flax.nnx from rngs, or of Equinox from a key, for each seed anew. "
            f"Got {'the class' if is_class else 'a'} "
            f"{network.__name__ if is_class else type(network).__name__}."
        )
    return network


def init_network(
    network: Any, env: EnvLike, outputs: Any, label: str, key: jax.Array
) -> Any:
    """Parameters of an agent's network, once its output is known to fit.

    `outputs` is the tree of shapes that `apply` must return; `label` is what messages
    call the network.

    Raises:
      ValueError: it returns other shapes, or can't read the observations.
    """
    _check_observations(network, env, label)
    obs = example(env, key)
    params = network.init(key, obs)
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(network.apply, params, obs))
    if shapes != outputs:
        raise ValueError(
            f"{label}.apply must return arrays of shapes {outputs} for one "
            f"observation, got {shapes}."
        )
    return params


def init_encoders(
    encoder: Any, env: EnvLike, label: str, keys: Any
) -> tuple[tuple[Any, ...], int]:
    """An encoder's parameters for each key, and how many numbers it returns.

    Raises:
      TypeError: it does not return one floating array.
      ValueError: it can't read the observations.
    """
    _check_observations(encoder, env, label)
    obs = reading_of(env.observation_space).scaled(example(env, keys[0]))
    params = tuple(encoder.init(key, obs) for key in keys)
    out = jax.eval_shape(encoder.apply, params[0], obs)
    single = isinstance(out, jax.ShapeDtypeStruct)
    if not single or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(f"{label}.apply must return one floating array, returns {out}.")
    return params, out.size


def _check_observations(network: Any, env: EnvLike, label: str) -> None:
    if isinstance(network, SizedNetwork):
        network.check_observations(env.observation_space, label)


def example(env: EnvLike, key: jax.Array) -> Any:
    """An observation of zeros, of the shapes and dtypes that a reset gives."""
    space = env.observation_space
    if isinstance(space, spaces.Discrete | spaces.Box):
        return jnp.zeros(space.shape, space.dtype)
    _, obs = jax.eval_shape(env.reset, key)  # perhaps of several arrays
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), obs)
