"""PPO's rollout and update by the kernels of `rljax.kernels`: what goes in and out.

The kernels are imported where they are needed: Pallas takes its time to import.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from rljax import random
from rljax.agents.base import as_vector, standardize
from rljax.types import EnvLike, Transition


def gradient_steps(how: str) -> Callable[..., Any]:
    """What `PPO._gradient_steps` does, in one kernel. `how`: see `kernels.mode`."""
    from rljax.kernels import update

    def run(agent, state, batch, key):
        minibatches = _minibatches(agent, batch, key)
        (moments,) = filter(_is_adam, _states(state.opt_state))
        _, as_params = as_vector(state.params)
        adam = update.Adam(
            as_params(moments.mu),
            as_params(moments.nu),
            moments.count,
            agent.current_learning_rate(state.num_updates),
        )
        params, mu, nu, metrics = update.gradient_steps(
            agent, state.params, adam, minibatches, interpret=how == "interpret"
        )
        count = moments.count + len(minibatches.action)
        moments = optax.ScaleByAdamState(count, as_vector(mu)[0], as_vector(nu)[0])
        state = state._replace(
            params=params,
            opt_state=jax.tree.map(
                lambda x: moments if _is_adam(x) else x,
                state.opt_state,
                is_leaf=_is_adam,
            ),
            num_updates=optax.safe_increment(state.num_updates),
        )
        return state, metrics

    return run


def rollout(
    env: EnvLike, start: Any, noise: Any, how: str
) -> Callable[..., Any] | None:
    """What the loop over steps does, in one kernel; None where none can.

    Args:
      env: environment.
      start: `rollout.RolloutState`, leaves [N, …].
      noise: all randomness of the steps, leaves [T, N, …].
      how: see `kernels.mode`.
    """
    from rljax.kernels import rollout

    if len(start.episode_length) > rollout.MOST_ENVS:
        return None
    traced = rollout.program(env, start.env_state, noise.step)
    if traced is None:
        return None

    def run(agent, state, env, start, noise):
        found, env_state, obs = rollout.roll_out(
            agent,
            state.params.actor,
            env,
            traced,
            (start.env_state, start.obs),
            noise.act,
            noise.step,
            noise.fresh,
            interpret=how == "interpret",
        )
        trajectory = Transition(
            found.obs,
            found.action,
            found.reward,
            found.terminated,
            found.truncated,
            found.next_obs,
            {"behaviour_log_probs": found.log_prob},
        )
        return start._replace(env_state=env_state, obs=obs), trajectory

    return run


def _minibatches(agent, batch, key):
    """Those of all epochs, in the order in which `PPO._gradient_steps` has them."""
    from rljax.kernels import update

    trajectory, advantages, targets, values = batch
    keys = random.split(key, agent.num_epochs)
    order = jax.vmap(lambda key: random.permutation(key, len(advantages)))(keys)
    order = order.reshape(agent.num_epochs * agent.num_minibatches, -1)
    steps = update.Minibatches(
        trajectory.obs,
        trajectory.action,
        trajectory.extras["behaviour_log_probs"],
        advantages,
        targets,
        values,
    )
    steps = jax.tree.map(lambda x: x[order], steps)
    if not agent.normalize_advantages:
        return steps
    return steps._replace(advantages=jax.vmap(standardize)(steps.advantages))


def _is_adam(x: Any) -> bool:
    return isinstance(x, optax.ScaleByAdamState)


def _states(opt_state: Any) -> list[Any]:
    return jax.tree.leaves(opt_state, is_leaf=_is_adam)
