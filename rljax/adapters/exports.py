"""Our environments for other libraries' learners, through Gymnasium's interfaces."""

from typing import Any

from rljax import checks
from rljax.adapters import foreign
from rljax.types import EnvLike


def to_gymnasium(env: EnvLike, *, render_mode: str | None = None) -> Any:
    """An environment of ours as a `gymnasium.Env`, for one at a time.

        env = to_gymnasium(rljax.make("CartPole-v1"))
        obs, info = env.reset(seed=0)

    `reset(seed=…)` fixes all randomness up to the next seed. Steps and resets are
    compiled programs. `TimeLimit` gives `truncated`, so `env.spec.max_episode_steps`
    stays None. An action out of its space is refused, also where Gymnasium's own
    environments clip: Stable-Baselines3 clips itself, and for other learners there is
    Gymnasium's `ClipAction`. Most of a step's time is the way from Python to XLA and
    back, about as long as 20 steps of Gymnasium's own CartPole: where a learner takes
    vector environments, use `to_gymnasium_vector`.

    Args:
      env: environment.
      render_mode: None, or "rgb_array" where the environment has a `render`.

    Raises:
      ImportError: Gymnasium is missing.
      TypeError: `env` is no environment, or Gymnasium has no space for one of its own.
      ValueError: `render_mode` is unknown, or the environment has no picture.
    """
    foreign.package("gymnasium", "to_gymnasium")
    from rljax.adapters.gymnasium_envs import GymnasiumEnv

    return GymnasiumEnv(env, render_mode=render_mode)


def to_gymnasium_vector(
    env: EnvLike,
    num_envs: int,
    *,
    autoreset_mode: str = "NextStep",
    render_mode: str | None = None,
) -> Any:
    """Many environments of ours as one `gymnasium.vector.VectorEnv`.

        envs = to_gymnasium_vector(rljax.make("CartPole-v1"), 64)
        obs, infos = envs.reset(seed=0)

    It does what a `SyncVectorEnv` of `to_gymnasium(env)` would, from the same seeds,
    but all environments are stepped by one vmapped program.

    Args:
      env: environment.
      num_envs: N, environments side by side.
      autoreset_mode: "NextStep" as in Gymnasium by default: the step after the end of
        an episode ignores its action, pays 0 and returns the observation of a reset.
        "SameStep": the ending step itself returns the observation of a reset, and
        infos["final_obs"] has the true last one.
      render_mode: None, or "rgb_array" where the environment has a `render`.

    Raises:
      ImportError, TypeError, ValueError: as `to_gymnasium`; or `num_envs` or
        `autoreset_mode` is not what it has to be.
    """
    foreign.package("gymnasium", "to_gymnasium_vector")
    from rljax.adapters.gymnasium_envs import GymnasiumVectorEnv

    num_envs = checks.integer("num_envs", num_envs, minimum=1)
    if autoreset_mode not in ("NextStep", "SameStep"):
        raise ValueError(
            f"autoreset_mode must be 'NextStep' or 'SameStep', got {autoreset_mode!r}."
        )
    return GymnasiumVectorEnv(
        env, num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode
    )
