"""Agents set up as other libraries have them, for matched comparisons."""

from rljax.agents import PPO


def purejaxrl_settings(num_updates: int = 976) -> PPO:
    """PPO as PureJaxRL and CleanRL run it on CartPole-v1, for matched comparisons.

    976 updates of 4 × 128 steps are the published 5e5; the time limit counts as a
    termination, as it does there.
    """
    return PPO(
        num_envs=4,
        rollout_length=128,
        num_epochs=4,
        num_minibatches=4,
        hidden_sizes=(64, 64),
        activation="tanh",
        shared_network=False,
        learning_rate=2.5e-4,
        anneal_updates=num_updates,
        discount=0.99,
        gae_lambda=0.95,
        clip_epsilon=0.2,
        clip_value_loss=True,
        normalize_advantages=True,
        entropy_coef=0.01,
        value_coef=0.5,
        max_grad_norm=0.5,
        adam_epsilon=1e-5,
        initialization="orthogonal",
        time_limit_is_termination=True,
    )
