"""rejax's PPO: speed and time to a solution."""

from typing import Any

import jax
import programs
import protocol
import rejax  # pyright: ignore[reportMissingImports]
import rejax.evaluate  # pyright: ignore[reportMissingImports]


def algorithm(env: str, settings: dict[str, Any], total_timesteps: int) -> Any:
    """PPO without the evaluations that it does while it trains."""
    renamed = ("discount", "entropy_coef", "normalize")
    given = {n: x for n, x in settings.items() if n not in renamed}
    algo = rejax.PPO.create(
        env=env,
        total_timesteps=total_timesteps,
        eval_freq=total_timesteps,
        skip_initial_evaluation=True,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        gamma=settings["discount"],
        gae_lambda=0.95,
        clip_eps=0.2,
        ent_coef=settings["entropy_coef"],
        vf_coef=0.5,
        max_grad_norm=0.5,
        normalize_observations=settings["normalize"],
        normalize_rewards=settings["normalize"],
        reward_normalization_discount=settings["discount"],
        **given,
    )
    return algo.replace(eval_callback=lambda algo, state, key: ())


def mean_return(algo: Any, state: Any, key: jax.Array) -> jax.Array:
    """Of 100 episodes of the most probable actions; its own `act` samples."""

    def mode(policy, obs):
        features = policy.features(obs)
        if algo.discrete:
            return policy.action_logits(features).argmax()
        return policy.action_mean(features)[0].clip(*policy.action_range)

    def act(obs, key):
        del key
        if algo.normalize_observations:
            obs = algo.normalize_obs(state.obs_rms_state, obs)
        return algo.actor.apply(state.actor_ts.params, obs[None], method=mode)

    _, returns = rejax.evaluate.evaluate(
        act, key, algo.env, algo.env_params, 100, algo.env_params.max_steps_in_episode
    )
    return returns.mean()


def ppo(
    env: str, num_seeds: int, num_updates: int, seed: int, settings: dict[str, Any]
):
    """Training from scratch, and then the first seeds' greedy returns, not timed."""
    update_steps = settings["num_envs"] * settings["num_steps"]
    algo = algorithm(env, settings, num_updates * update_steps)

    def train(key):
        return algo.train(key)[0]

    def keys(number):
        key = programs.run_key(seed, number)
        return key if num_seeds == 1 else jax.random.split(key, num_seeds)

    one = num_seeds == 1
    program, facts = programs.compiled(
        jax.jit(train if one else jax.vmap(train)), keys(0)
    )
    evaluate = jax.jit(lambda state, key: mean_return(algo, state, key))

    def run(number):
        seconds, states = programs.timed(program, keys(number))
        key = programs.run_key(seed + 1, number)
        score = programs.judged(evaluate, states, num_seeds, key)
        steps = int(states.global_step.min())
        return seconds, num_seeds * steps, {"return": score, "steps": steps}

    return run, facts


def solve(
    seed: int, threshold: float, chunk: int, max_updates: int, settings: dict[str, Any]
):
    """Trains until 100 fresh greedy episodes have a mean return of `threshold`."""
    update_steps = settings["num_envs"] * settings["num_steps"]
    algo = algorithm("CartPole-v1", settings, max_updates * update_steps)

    @jax.jit
    def advance(state):
        def iteration(_, state):
            return algo.train_iteration(state)

        return jax.lax.fori_loop(0, chunk, iteration, state)

    evaluate = jax.jit(lambda state, key: mean_return(algo, state, key))

    def train():
        key, key_train = jax.random.split(jax.random.key(seed))
        state = jax.jit(algo.init_state)(key_train)
        score = 0.0
        for _ in range(chunk, max_updates + 1, chunk):
            state = advance(state)
            key, key_evaluate = jax.random.split(key)
            score = float(evaluate(state, key_evaluate))
            if score >= threshold:
                break
        return int(state.global_step), score

    def run(number):
        seconds, (steps, score) = programs.timed(train)
        return seconds, steps, {"return": score, "steps": steps}

    return run, programs.devices()


if __name__ == "__main__":
    protocol.serve(
        {"ppo": ppo, "solve": solve}, ["rejax", "gymnax", "flax", "jax", "jaxlib"]
    )
