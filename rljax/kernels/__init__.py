"""Kernels for NVIDIA GPUs: a whole rollout, and all gradient steps of a PPO update.

XLA makes thousands of small kernels of one update of PPO, each of which reads what the
one before has written to memory. Here one block of the GPU does all of it for one seed:
`vmap` over seeds becomes a grid of blocks. `PPO(kernels="auto")`, the default, uses
them on a GPU where they apply and XLA's programs elsewhere; nothing else changes.

They apply to PPO itself with its own networks of one or two hidden layers of up to 64
units, separate for actor and critic, observations of up to 63 numbers, up to 8 actions,
its own Adam, float32, and minibatches whose size 16 divides. The rollout's asks for no
minibatches, but for up to 128 environments a seed, and that what they compute in a step
is element by element, as in CartPole: see `scalars`.

Products have 10 bits of mantissa, as those of XLA on such a GPU by default (TF32), and
so has tanh. Where `jax_default_matmul_precision` asks for more, XLA does the work.

They are written in Pallas, for its Triton backend. JAX says since 0.11 that a later
version will remove that, in a DeprecationWarning as it compiles one (`python -W error`
makes an error of it); without that backend, "auto" is what XLA does.

A reader of PPO need not know any of this.
"""

import importlib
from collections.abc import Callable
from typing import Any

import jax


def mode(setting: str) -> str:
    """How kernels run as things are: "never", "interpret" or "compile".

    Args:
      setting: an agent's field `kernels`: "auto", "never" or "interpret".
    """
    coarse = ("high", "tensorfloat32", "default", "bfloat16", "fastest", None)
    config: Any = jax.config
    if (
        setting == "never"
        or config.jax_enable_x64
        or config.jax_debug_nans
        or config.jax_debug_infs
        or config.jax_disable_jit
        or config.jax_default_matmul_precision not in coarse
    ):
        return "never"
    if setting == "interpret":
        return "interpret"
    return "compile" if _on_gpu() else "never"


def _on_gpu() -> bool:
    """Whether the default device is an NVIDIA GPU that the kernels are written for."""
    if jax.default_backend() != "gpu":
        return False
    capability = getattr(jax.devices()[0], "compute_capability", "")
    try:
        importlib.import_module("jax.experimental.pallas.triton")
        return float(capability) >= 8.0  # no number on other makes
    except (ImportError, ValueError):
        return False


def choose(kernel: Callable[..., Any], plain: Callable[..., Any], how: str) -> Any:
    """A function that runs `kernel` on a CUDA device and `plain` on any other.

    Both take the same arrays and return the same tree. Derivatives are those of
    `plain`. `how` is what `mode` returned, but not "never".
    """

    def run(*args):
        if how == "interpret":
            return kernel(*args)
        return jax.lax.platform_dependent(*args, cuda=kernel, default=plain)

    chosen = jax.custom_jvp(run)
    chosen.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return chosen
