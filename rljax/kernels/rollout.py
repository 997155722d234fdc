"""All steps of a PPO rollout in one kernel: one block acts for one seed.

Arrays of the environment are held as `scalars` does: number by number, each a vector
over the environments. In memory they are [size, …, N], with N padded to a power of two.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from rljax import contract, random
from rljax.kernels import packing, scalars
from rljax.kernels.update import activate, read_head, read_hidden

MOST_ENVS = 128
"""Environments of one seed; more of them keep XLA's programs busy anyway."""


class Program(NamedTuple):
    """What an environment computes in a step, and in what shapes."""

    jaxpr: Any
    """(env leaves, state leaves, action, noise leaves) → (state leaves, obs, reward,
    terminated, truncated)."""
    env: tuple[Any, ...]
    """Shape and dtype of each leaf."""
    state: tuple[Any, ...]
    noise: tuple[Any, ...]
    used: tuple[bool, ...]
    """Whether each leaf of the noise is used at all."""


class Trajectory(NamedTuple):
    """What the kernel writes: [D, T, N] observations, else [T, N]."""

    obs: Any
    next_obs: Any
    action: Any
    log_prob: Any
    reward: Any
    terminated: Any
    truncated: Any


def program(env: Any, env_state: Any, noise: Any) -> Program | None:
    """One environment's step, traced; None where a kernel can't compute it.

    Args:
      env: environment.
      env_state: leaves [N, …].
      noise: of the steps, leaves [T, N, …].
    """

    def one(tree, axes):
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape[axes:], x.dtype), tree
        )

    def step(env, state, action, noise):
        state, time_step = contract.advance(env, state, action, noise)
        return jax.tree.leaves(state), tuple(time_step)

    action = jax.ShapeDtypeStruct((), jnp.int32)
    args = env, one(env_state, 1), action, one(noise, 2)
    jaxpr, (state, time_step) = jax.make_jaxpr(step, return_shape=True)(*args)
    first, _, _, rest = (jax.tree.leaves(jax.eval_shape(lambda x=x: x)) for x in args)
    before = jax.tree.leaves(args[1])
    variables = jaxpr.jaxpr.invars[len(jaxpr.jaxpr.invars) - len(rest) :]
    used = tuple(scalars.uses(jaxpr.jaxpr, variable) for variable in variables)
    same = [(x.shape, x.dtype) for x in before] == [(x.shape, x.dtype) for x in state]
    known = ("float32", "int32", "bool")
    inputs = [*first, *before, *(x for x, u in zip(rest, used, strict=True) if u)]
    observation = time_step[0]
    if (
        not same
        or not isinstance(observation, jax.ShapeDtypeStruct)
        or observation.dtype != jnp.float32
        or time_step[1].dtype != jnp.float32
        or any(str(x.dtype) not in known for x in inputs)
        or not scalars.supported(jaxpr.jaxpr)
    ):
        return None
    return Program(jaxpr, tuple(first), tuple(before), tuple(rest), used)


def roll_out(
    agent: Any,
    layers: Any,
    env: Any,
    traced: Program,
    start: tuple[Any, jax.Array],
    keys: jax.Array,
    noise: Any,
    fresh: tuple[Any, jax.Array],
    *,
    interpret: bool,
) -> tuple[Trajectory, Any, jax.Array]:
    """(trajectory, env_state, obs) after T steps of N environments.

    Args:
      agent: a `PPO`.
      layers: the actor's.
      env: environment.
      traced: its `program`.
      start: (env_state, obs), leaves [N, …].
      keys: [T, N] of the decisions.
      noise: of the steps, leaves [T, N, …].
      fresh: (env_state, obs) of a reset for each step, leaves [T, N, …].
      interpret: whether JAX interprets the kernel, on any device.
    """
    num_steps, num_envs = keys.shape[:2]
    padded = packing.width(num_envs)
    # The words that categorical_sample would draw.
    words = jax.vmap(jax.vmap(lambda key: random.uniform(key, (), jnp.float32)))(keys)

    def split(x, axes):
        """[*axes, N, …] → [size, *axes, padded], flags as integers."""
        x = x.astype(jnp.int32) if x.dtype == bool else x
        x = jnp.moveaxis(x.reshape(*x.shape[: axes + 1], -1), -1, 0)
        return jnp.pad(x, [(0, 0)] * (axes + 1) + [(0, padded - num_envs)])

    def join(x, like):
        """The reverse, in the shape and dtype of one environment's."""
        x = jnp.moveaxis(x[..., :num_envs], 0, -1)
        return x.reshape(*x.shape[:-1], *like.shape).astype(like.dtype)

    state, treedef = jax.tree.flatten(start[0])
    begin = ([split(x, 0) for x in state], split(start[1], 0))
    fresh = ([split(x, 1) for x in jax.tree.leaves(fresh[0])], split(fresh[1], 1))
    noise = [
        split(x, 1)
        for x, used in zip(jax.tree.leaves(noise), traced.used, strict=True)
        if used
    ]
    network = packing.arrange(layers)
    layout = packing.layout(network)
    env_leaves = [jnp.asarray(x).reshape(-1) for x in jax.tree.leaves(env)]

    def out(dtype, *sizes):
        return jax.ShapeDtypeStruct((*sizes, num_steps, padded), dtype)

    floating, integer = out(jnp.float32), out(jnp.int32)
    observations = out(jnp.float32, len(begin[1]))
    trajectory = Trajectory(
        observations, observations, integer, floating, floating, integer, integer
    )
    kernel = functools.partial(
        _kernel,
        layout=layout,
        traced=traced,
        activation=agent.activation,
        num_steps=num_steps,
        interpret=interpret,
    )
    trajectory, (state, obs) = pl.pallas_call(
        kernel,
        out_shape=(
            trajectory,
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), begin),
        ),
        # 16 rows of a product to a warp.
        compiler_params=triton.CompilerParams(num_warps=padded // 16, num_stages=1),
        interpret=interpret,
    )(
        packing.pack(layout, network),
        env_leaves,
        begin,
        noise,
        fresh,
        jnp.pad(words, [(0, 0), (0, padded - num_envs)]),
    )
    state = [join(x, like) for x, like in zip(state, traced.state, strict=True)]
    one_obs = jax.ShapeDtypeStruct(start[1].shape[1:], jnp.float32)
    numbers = Trajectory(*(x[..., :num_envs] for x in trajectory))
    trajectory = numbers._replace(
        obs=join(trajectory.obs, one_obs),
        next_obs=join(trajectory.next_obs, one_obs),
        terminated=numbers.terminated.astype(bool),
        truncated=numbers.truncated.astype(bool),
    )
    return trajectory, treedef.unflatten(state), join(obs, one_obs)


def _kernel(
    vector,
    env_leaves,
    begin,
    noise,
    fresh,
    words,
    trajectory,
    end,
    *,
    layout,
    traced,
    activation,
    num_steps,
    interpret,
):
    """One seed."""
    like = words[0, :]
    closed = traced.jaxpr

    def vectors(shapes, read):
        """For each array, its numbers: `read` gives the one at (leaf, index)."""
        arrays = []
        for i, leaf in enumerate(shapes):
            array = np.empty(leaf.shape, object)
            for k, index in enumerate(np.ndindex(leaf.shape)):
                array[index] = read(i, k).astype(leaf.dtype)
            arrays.append(array)
        return arrays

    constants = vectors(
        traced.env, lambda i, k: jnp.broadcast_to(env_leaves[i][k], like.shape)
    )
    units = layout.first.shape[1]
    num_inputs = len(begin[1])

    def row(i):
        return vector[pl.ds(layout.first.offset + i * units, units)]

    inputs, bias = [row(i) for i in range(num_inputs)], row(layout.first.shape[0] - 1)
    hidden = read_hidden(vector, layout)
    rows, offsets = read_head(vector, layout)

    def logits_of(obs):
        x = bias[None, :]
        for number, weights in zip(obs, inputs, strict=True):
            x = x + number[:, None] * weights[None, :]
        x = activate(x, activation, interpret)
        for kernel, b in hidden:
            x = activate(x @ kernel + b[None, :], activation, interpret)
        pairs = zip(rows, offsets, strict=True)
        return [jnp.sum(x * weights[None, :], axis=1) + b for weights, b in pairs]

    used = [leaf for leaf, u in zip(traced.noise, traced.used, strict=True) if u]

    def step(t, carry):
        state, obs = carry
        action, log_prob = _choose(logits_of(obs), words[t, :])
        drawn = iter(vectors(used, lambda i, k: noise[i][k, t, :]))
        drawn = [next(drawn) if u else None for u in traced.used]
        numbers = iter(state)
        arrays = vectors(traced.state, lambda i, k: next(numbers))
        chosen = np.empty((), object)
        chosen[()] = action
        args = [*constants, *arrays, chosen, *drawn]
        results = scalars.evaluate(closed.jaxpr, closed.consts, args, like)
        *state, next_obs, reward, terminated, truncated = results
        reward, terminated, truncated = (
            x.item() for x in (reward, terminated, truncated)
        )
        done = terminated | truncated
        next_obs = list(next_obs.ravel())
        for d, (before, after) in enumerate(zip(obs, next_obs, strict=True)):
            trajectory.obs[d, t, :] = before
            trajectory.next_obs[d, t, :] = after
        trajectory.action[t, :] = action
        trajectory.log_prob[t, :] = log_prob
        trajectory.reward[t, :] = reward
        trajectory.terminated[t, :] = terminated.astype(jnp.int32)
        trajectory.truncated[t, :] = truncated.astype(jnp.int32)
        resets = vectors(traced.state, lambda i, k: fresh[0][i][k, t, :])
        state = [
            jnp.where(done, new, old)
            for news, olds in zip(resets, state, strict=True)
            for new, old in zip(news.ravel(), olds.ravel(), strict=True)
        ]
        obs = [jnp.where(done, fresh[1][d, t, :], x) for d, x in enumerate(next_obs)]
        return state, obs

    start = vectors(traced.state, lambda i, k: begin[0][i][k, :])
    carry = (
        [number for array in start for number in array.ravel()],
        [begin[1][d, :] for d in range(num_inputs)],
    )
    state, obs = jax.lax.fori_loop(0, num_steps, step, carry)
    places = [
        (i, k) for i, x in enumerate(traced.state) for k in range(math.prod(x.shape))
    ]
    for (i, k), number in zip(places, state, strict=True):
        end[0][i][k, :] = number.astype(end[0][i].dtype)
    for d, number in enumerate(obs):
        end[1][d, :] = number


def _choose(logits: list[jax.Array], u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The action at which the cumulative distribution passes u, with its log π.

    As `distributions.categorical_quantile`: the most probable action comes last, and
    where the logits are NaN the action is −1.
    """
    top = functools.reduce(jnp.maximum, logits)
    exps = [jnp.exp(x - top) for x in logits]
    total = functools.reduce(jnp.add, exps)
    best = jnp.full(u.shape, -1, jnp.int32)
    for a, x in reversed(list(enumerate(logits))):
        best = jnp.where(x == top, a, best)
    cumulative, passed = jnp.zeros_like(u), []
    for a, x in enumerate(exps):
        counts = (best != a) & (x > 0)
        cumulative = cumulative + jnp.where(counts, x / total, 0)
        passed.append(jnp.where(counts, cumulative, 0))
    bound = u * (cumulative + 1 / total)
    action, chosen = best, top
    for a in reversed(range(len(logits))):
        hit = passed[a] > bound
        action = jnp.where(hit, a, action)
        chosen = jnp.where(hit, logits[a], chosen)
    return action, chosen - top - jnp.log(total)
