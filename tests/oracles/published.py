"""The published update rules as they stand, mistakes included, and them mended.

One episode's obs [T, D], actions [T] and returns G [T], in order; after each step the
weights move, so later steps see moved ones. A step's batch is B = 1 in the terms of
`networks`. Every function returns the parameters after the last step.
"""

from . import optimizers  # this folder alone
from .networks import backward, forward, policy_gradient


def reinforce(p, obs, actions, returns, learning_rate=0.01):
    """Plain gradient ascent on log π(a_t|s_t) G_t after every single step.

    θ ← θ + α G_t ∇log π(a_t|s_t) at the θ that step t−1 left.
    """
    for t in range(len(actions)):
        x = obs[t : t + 1]
        z, h, logits, _ = forward(p, x)
        d_logits = policy_gradient(logits, actions[t : t + 1], returns[t : t + 1])
        p = optimizers.sgd(p, backward(p, x, z, h, d_logits), learning_rate)
    return p


def actor_critic(p, obs, actions, returns, learning_rate=0.005, value_coef=0.5):
    """As published, wrong in three ways (see `actor_critic_mended` for the right one).

    1. Trunk sign: with δ = G − V, the code adds the critic's δ·Wcᵀ to a gradient that
       is then *descended*, as if it were ∂L/∂h; the true ∂L/∂h is −2c δ·Wcᵀ. So the
       trunk climbs the value error while the critic's head goes down on it.
    2. The biases ba and bc of the two heads never move. b1 does.
    3. A step after every time step instead of a batch.

    The value loss is c (G − V)², c = 0.5, so ∂L/∂V = −δ for the head.
    """
    return _sequential(
        p,
        (obs, actions, returns),
        learning_rate,
        value_coef,
        trunk_sign=-1.0,
        train_head_biases=False,
    )


def actor_critic_mended(p, obs, actions, returns, learning_rate=0.005, value_coef=0.5):
    """The same step by step, with the right trunk sign and trained biases.

    θ ← θ − α ∇[−log π(a|s) A + c (G − V)²], A = G − V held constant, all parameters.
    """
    return _sequential(
        p,
        (obs, actions, returns),
        learning_rate,
        value_coef,
        trunk_sign=1.0,
        train_head_biases=True,
    )


def actor_critic_step_gradient(
    p, x, action, target, value_coef, *, trunk_sign, train_head_biases
):
    """Of one step, x [1, D], action [1], target [1], per parameter.

    ∂L/∂h = −A (one_hot(a) − π)·Waᵀ + trunk_sign · ∂L/∂V·Wcᵀ; trunk_sign = 1 is right.
    """
    z, h, logits, values = forward(p, x)
    d_logits = policy_gradient(logits, action, target - values)
    d_values = 2 * value_coef * (values - target)
    grads = backward(p, x, z, h, d_logits, d_values)
    critic_only = backward(p, x, z, h, 0 * d_logits, d_values)
    for name in ("W1", "b1"):
        grads[name] = grads[name] + (trunk_sign - 1) * critic_only[name]
    if not train_head_biases:
        grads |= {"ba": 0 * grads["ba"], "bc": 0 * grads["bc"]}
    return grads


def _sequential(p, episode, learning_rate, value_coef, **variant):
    obs, actions, returns = episode
    for t in range(len(actions)):
        step = slice(t, t + 1)
        grads = actor_critic_step_gradient(
            p, obs[step], actions[step], returns[step], value_coef, **variant
        )
        p = optimizers.sgd(p, grads, learning_rate)
    return p
