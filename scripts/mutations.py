"""Known mistakes of the field, each as a change of one place in the library.

`scripts/mutation_check.py` plants them; a test holds each `right` to occur exactly once
in its file, so that a change of the library changes this list too.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    """One mistake."""

    name: str
    """What the mistake is, in the words of the field."""
    file: str
    """Path below rljax/."""
    right: str
    """Text as it stands, once in the file."""
    wrong: str
    """Text with the mistake."""
    tests: str
    """Path below tests/ where it ought to be caught; if not there, all are run."""


RETURNS, LOSSES, DISTRIBUTIONS = (
    "returns.py",
    "losses.py",
    "distributions/categorical.py",
)
BASE, CRITIC, PPO = "agents/base.py", "agents/critic.py", "agents/ppo.py"
TABULAR, Q_LEARNING = "tabular/agent.py", "tabular/q_learning.py"
UPDATES = "agents/test_updates.py"

MUTATIONS = [
    Mutation(
        "GAE off by one: the baseline is V(s') instead of V(s)",
        RETURNS,
        "jnp.where(terminated, 0, discount * next_values) - values",
        "jnp.where(terminated, 0, discount * next_values) - next_values",
        "test_returns.py",
    ),
    Mutation(
        "GAE: truncation taken for termination",
        RETURNS,
        "rewards + jnp.where(terminated, 0, discount * next_values)",
        "rewards + jnp.where(terminated | truncated, 0, discount * next_values)",
        "test_returns.py",
    ),
    Mutation(
        "GAE flows on over a truncated step, into the next episode",
        RETURNS,
        "_sum_back(td_errors, following, terminated | truncated)",
        "_sum_back(td_errors, following, terminated)",
        "test_returns.py",
    ),
    Mutation(
        "GAE: λ left out of the recursion",
        RETURNS,
        "discount * lambda_ * part",
        "discount * part",
        "test_returns.py",
    ),
    Mutation(
        "GAE: a terminal state is bootstrapped from",
        RETURNS,
        "rewards + jnp.where(terminated, 0, discount * next_values)",
        "rewards + discount * next_values",
        "test_returns.py",
    ),
    Mutation(
        "λ-returns: λ and 1 − λ exchanged",
        RETURNS,
        "mixed = (1 - lambda_) * next_value + lambda_ * next_return.total",
        "mixed = lambda_ * next_value + (1 - lambda_) * next_return.total",
        "test_returns.py",
    ),
    Mutation(
        "λ-returns bootstrap from the wrong state where an episode is cut",
        RETURNS,
        "total = discount * jnp.where(cut, next_value, mixed)",
        "total = discount * mixed",
        "test_returns.py",
    ),
    Mutation(
        "returns: the end of the rollout is not bootstrapped",
        RETURNS,
        "jnp.arange(len(rewards)) == len(rewards) - 1",
        "jnp.arange(len(rewards)) == len(rewards)",
        "test_returns.py",
    ),
    Mutation(
        "an episode's last step is left out of it",
        RETURNS,
        "jnp.cumsum(done) - done == 0",
        "jnp.cumsum(done) == 0",
        "test_returns.py",
    ),
    Mutation(
        "PPO: wrong clip side",
        LOSSES,
        "jnp.where(advantages >= 0, 1 + clip_epsilon, 1 - clip_epsilon)",
        "jnp.where(advantages >= 0, 1 - clip_epsilon, 1 + clip_epsilon)",
        "test_losses.py",
    ),
    Mutation(
        "PPO: the ratio is clipped on both sides, whatever the advantage's sign",
        LOSSES,
        "return -jnp.mean(jnp.where(inside, ratio, bound) * advantages)",
        "ratio = jnp.clip(jnp.exp(log_ratio), 1 - clip_epsilon, 1 + clip_epsilon)\n"
        "    return -jnp.mean(ratio * advantages)",
        "test_losses.py",
    ),
    Mutation(
        "PPO: the objective is minimised, not its negative",
        LOSSES,
        "return -jnp.mean(jnp.where(inside, ratio, bound) * advantages)",
        "return jnp.mean(jnp.where(inside, ratio, bound) * advantages)",
        "test_losses.py",
    ),
    Mutation(
        "PPO: the ratio upside down",
        LOSSES,
        "log_ratio = log_probs - behaviour_log_probs",
        "log_ratio = behaviour_log_probs - log_probs",
        "test_losses.py",
    ),
    Mutation(
        "PPO: half of the gradient at a ratio on the bound",
        LOSSES,
        "return -jnp.mean(jnp.where(inside, ratio, bound) * advantages)",
        "ratio = jnp.exp(log_ratio)\n"
        "    low, high = 1 - clip_epsilon, 1 + clip_epsilon\n"
        "    clipped = jnp.clip(ratio, low, high)\n"
        "    return -jnp.mean(jnp.minimum(ratio * advantages, clipped * advantages))",
        "test_losses.py",
    ),
    Mutation(
        "value loss without its ½",
        LOSSES,
        "return 0.5 * jnp.mean(jnp.square(targets - values))",
        "return jnp.mean(jnp.square(targets - values))",
        "test_losses.py",
    ),
    Mutation(
        "clipped value loss: the smaller of the two errors",
        LOSSES,
        "jnp.where(error >= clipped_error, error, clipped_error)",
        "jnp.where(error <= clipped_error, error, clipped_error)",
        "test_losses.py",
    ),
    Mutation(
        "policy gradient: the weights carry a gradient",
        LOSSES,
        "log_probs * jax.lax.stop_gradient(weights)",
        "log_probs * weights",
        "test_losses.py",
    ),
    Mutation(
        "policy gradient: wrong sign",
        LOSSES,
        "return -jnp.mean(log_probs * jax.lax",
        "return jnp.mean(log_probs * jax.lax",
        "test_losses.py",
    ),
    Mutation(
        "TD error: a terminal state is bootstrapped from",
        LOSSES,
        "jnp.where(terminated, 0, discount * jnp.max(next_q_values, axis=-1))",
        "discount * jnp.max(next_q_values, axis=-1)",
        "test_losses.py",
    ),
    Mutation(
        "entropy: wrong sign",
        DISTRIBUTIONS,
        "return -jnp.sum(probs * jnp.where(probs > 0, log_probs, 0), axis=-1)",
        "return jnp.sum(probs * jnp.where(probs > 0, log_probs, 0), axis=-1)",
        "test_distributions.py",
    ),
    Mutation(
        "KL in the wrong direction",
        DISTRIBUTIONS,
        "return jnp.sum(probs * (log_probs - reference_log_probs), axis=-1)",
        "return jnp.sum(\n"
        "        jnp.exp(reference_log_probs) * (reference_log_probs - log_probs), -1\n"
        "    )",
        "test_distributions.py",
    ),
    Mutation(
        "k3 with the sign of the log-ratio turned",
        "rlhf/kl.py",
        "return jnp.expm1(-log_ratio) + log_ratio",
        "return jnp.expm1(log_ratio) - log_ratio",
        "test_distributions.py",
    ),
    Mutation(
        "k1 with the wrong sign",
        "rlhf/kl.py",
        "return _log_ratios(log_probs, reference_log_probs)\n\n\ndef kl_k2",
        "return -_log_ratios(log_probs, reference_log_probs)\n\n\ndef kl_k2",
        "test_distributions.py",
    ),
    Mutation(
        "k1 in the place of k3",
        "rlhf/kl.py",
        "return jnp.expm1(-log_ratio) + log_ratio",
        "return log_ratio",
        "test_distributions.py",
    ),
    Mutation(
        "PPO: entropy bonus with the wrong sign",
        PPO,
        "+ self.value_coef * value_loss - self.entropy_coef * entropy",
        "+ self.value_coef * value_loss + self.entropy_coef * entropy",
        UPDATES,
    ),
    Mutation(
        "PPO: the time limit taken for termination by default",
        PPO,
        "time_limit_is_termination: bool = struct.static(default=False)",
        "time_limit_is_termination: bool = struct.static(default=True)",
        "test_defaults.py",
    ),
    Mutation(
        "PPO: every epoch in one and the same order",
        PPO,
        "random.split(key, self.num_epochs)",
        "jnp.broadcast_to(key, (self.num_epochs,))",
        UPDATES,
    ),
    Mutation(
        "PPO: advantages are centred but not scaled",
        PPO,
        "advantages = standardize(advantages)",
        "advantages = advantages - jnp.mean(advantages)",
        UPDATES,
    ),
    Mutation(
        "PPO: annealing counts from the second update",
        BASE,
        "1.0 - done / self.anneal_updates",
        "1.0 - (done - 1) / self.anneal_updates",
        UPDATES,
    ),
    Mutation(
        "clipping of each element instead of the global norm",
        BASE,
        "optax.clip_by_global_norm(self.max_grad_norm)",
        "optax.clip(self.max_grad_norm)",
        UPDATES,
    ),
    Mutation(
        "bootstrapping from the observation after the reset",
        CRITIC,
        "self.over_steps(params, trajectory.next_obs)",
        "self.over_steps(params, jax.numpy.roll(trajectory.obs, -1, 0))",
        UPDATES,
    ),
    Mutation(
        "the critic's target lacks the value: advantages alone",
        CRITIC,
        "return advantages, advantages + values, values",
        "return advantages, advantages, values",
        UPDATES,
    ),
    Mutation(
        "the policy's loss flows into the critic: advantage not held constant",
        "agents/actor_critic.py",
        "policy_loss = -jnp.mean(log_probs * advantages)",
        "policy_loss = -jnp.mean(log_probs * (targets - values))",
        UPDATES,
    ),
    Mutation(
        "actor-critic: entropy bonus with the wrong sign",
        "agents/actor_critic.py",
        "self.value_coef * value_loss - self.entropy_coef * entropy",
        "self.value_coef * value_loss + self.entropy_coef * entropy",
        UPDATES,
    ),
    Mutation(
        "the value loss enters the shared trunk with the wrong sign",
        "networks/perceptrons.py",
        "value = mlp_apply(params.critic, x, activation)",
        "x = 2 * jax.lax.stop_gradient(x) - x if params.trunk else x\n"
        "    value = mlp_apply(params.critic, x, activation)",
        UPDATES,
    ),
    Mutation(
        "the heads' biases left out",
        "networks/perceptrons.py",
        "x = ACTIVATIONS[activation](x) @ layer.kernel + layer.bias",
        "x = ACTIVATIONS[activation](x) @ layer.kernel",
        UPDATES,
    ),
    Mutation(
        "He initialisation by the number of outputs",
        "networks/perceptrons.py",
        'variance_scaling(2.0, "fan_in", "normal")',
        'variance_scaling(2.0, "fan_out", "normal")',
        "test_networks.py",
    ),
    Mutation(
        "REINFORCE: a mean over steps instead of episodes",
        "agents/reinforce.py",
        "loss = -jnp.sum(log_probs * weights) / weights.shape[1]",
        "loss = -jnp.mean(log_probs * weights)",
        UPDATES,
    ),
    Mutation(
        "REINFORCE: steps after the first episode count too",
        "agents/reinforce.py",
        "return jnp.where(mask, weights, 0), mask",
        "return weights, mask",
        UPDATES,
    ),
    Mutation(
        "wrong time limit: one step too many",
        "envs/wrappers.py",
        "(time >= self.max_steps)",
        "(time > self.max_steps)",
        "envs/test_wrappers.py",
    ),
    Mutation(
        "the time limit terminates",
        "envs/wrappers.py",
        "time_step._replace(truncated=truncated)",
        "time_step._replace(terminated=time_step.terminated | truncated)",
        "envs/test_wrappers.py",
    ),
    Mutation(
        "a weakly typed state, which compiles every step twice",
        "envs/wrappers.py",
        "TimeLimitState(env_state, jnp.zeros((), jnp.int32))",
        "TimeLimitState(env_state, jnp.asarray(0))",
        "testing/test_environments.py",
    ),
    Mutation(
        "before the first episode ends, its mean return is said to be 0",
        "training.py",
        "return jnp.where(count > 0, total / floor, jnp.nan)",
        "return total / floor",
        "test_rollout.py",
    ),
    Mutation(
        "an episode's return lacks its last reward",
        "rollout.py",
        "ended = running.value + total(step <= broadcast(until))",
        "ended = running.value + total(step < broadcast(until))",
        "test_rollout.py",
    ),
    Mutation(
        "all resets of a rollout replay one start state",
        "rollout.py",
        "jax.vmap(env.reset)(random.split(key_reset, length))",
        "jax.vmap(lambda _: env.reset(key_reset))(jnp.arange(length))",
        "test_rollout.py",
    ),
    Mutation(
        "the successor recorded is the one after the reset",
        "rollout.py",
        "next_obs=time_step.obs,",
        "next_obs=jax.tree.map(\n"
        "            lambda new, old: jnp.where(\n"
        "                time_step.terminated | time_step.truncated, new, old\n"
        "            ),\n"
        "            noise.fresh[1],\n"
        "            time_step.obs,\n"
        "        ),",
        "test_rollout.py",
    ),
    Mutation(
        "CartPole: semi-implicit Euler",
        "envs/cartpole.py",
        "x=state.x + self.time_step * state.x_dot,",
        "x=state.x + self.time_step * (state.x_dot + self.time_step * x_acc),",
        "envs/test_cartpole.py",
    ),
    Mutation(
        "argmax: ties to the last action",
        DISTRIBUTIONS,
        "return jnp.argmax(scores, axis=-1).astype(jnp.int32)",
        "last = scores.shape[-1] - 1\n"
        "    return (last - jnp.argmax(scores[..., ::-1], -1)).astype(jnp.int32)",
        "tabular/test_exploration.py",
    ),
    Mutation(
        "UCB: t counted from 1",
        "tabular/exploration/functions.py",
        "_weight(c=c) * _radius(log_t, counts)",
        "_weight(c=c) * _radius(jnp.log1p(_float(t) + 1), counts)",
        "tabular/test_exploration.py",
    ),
    Mutation(
        "ε-greedy explores among the other actions alone",
        "tabular/exploration/rules.py",
        "return jnp.where(explores, uniform, greedy(q_values))",
        "best = greedy(q_values)\n"
        "        other = (best + 1 + uniform % (num_actions - 1)) % num_actions\n"
        "        return jnp.where(explores, other, best)",
        "tabular/test_exploration.py",
    ),
    Mutation(
        "gradient bandit: the policy left out of its gradient",
        "tabular/exploration/functions.py",
        "step_size * (reward - baseline) * (chosen - policy)",
        "step_size * (reward - baseline) * chosen",
        "tabular/test_exploration.py",
    ),
    Mutation(
        "tabular target: a terminal state is bootstrapped from",
        TABULAR,
        "bootstrap = jnp.where(transition.terminated, 0, discount * next_value)",
        "bootstrap = discount * next_value",
        "tabular/test_tabular_agents.py",
    ),
    Mutation(
        "tabular target: truncation taken for termination",
        TABULAR,
        "bootstrap = jnp.where(transition.terminated, 0, discount * next_value)",
        "done = transition.terminated | transition.truncated\n"
        "    bootstrap = jnp.where(done, 0, discount * next_value)",
        "tabular/test_tabular_agents.py",
    ),
    Mutation(
        "Sarsa's target is the greedy one",
        "tabular/sarsa.py",
        "next_value = taken(row_now, transition.action)",
        "next_value = jnp.max(row_now)",
        "tabular/test_tabular_agents.py",
    ),
    Mutation(
        "double Q-learning judges by the table that chose",
        Q_LEARNING,
        "next_value = taken(judging, greedy(choosing))",
        "next_value = taken(choosing, greedy(choosing))",
        "tabular/test_tabular_agents.py",
    ),
    Mutation(
        "sample mean: α = 1/(N + 1)",
        TABULAR,
        "return 1 / counts.astype(state.q_values.dtype)",
        "return 1 / (counts.astype(state.q_values.dtype) + 1)",
        "tabular/test_tabular_agents.py",
    ),
    Mutation(
        "planning: a terminal state goes on earning",
        "tabular/planning/bellman.py",
        "return jnp.where(mdp.terminal[:, None], 0, mdp.rewards + discount * expected)",
        "return mdp.rewards + discount * expected",
        "tabular/test_planning.py",
    ),
    Mutation(
        "Gauss–Seidel sweeps that do not see the new values",
        "tabular/planning/improvement.py",
        "def update(state, values):\n"
        "            transitions = jax.tree.map(lambda x: x[state], mdp.transitions)\n"
        "            q = mdp.rewards[state] + discount * "
        "expectation(transitions, values)",
        "old = values\n\n"
        "        def update(state, values):\n"
        "            transitions = jax.tree.map(lambda x: x[state], mdp.transitions)\n"
        "            q = mdp.rewards[state] + discount * "
        "expectation(transitions, old)",
        "tabular/test_planning.py",
    ),
    Mutation(
        "Sweep: a run that broke goes on learning from its NaN",
        "experiment/programs.py",
        "frozen = breaks | (state.fault_update >= 0)",
        "frozen = breaks",
        "experiment/test_sweep.py",
    ),
    Mutation(
        "Sweep: keys in another order than the settings' runs",
        "experiment/population.py",
        "jnp.concatenate([keys] * len(self.pairs))",
        "jnp.repeat(keys, len(self.pairs), axis=0)",
        "experiment/test_sweep.py",
    ),
    Mutation(
        "Resume: the updates that were done are done again",
        "experiment/runner.py",
        "self.done = found.step",
        "self.done = 0",
        "experiment/test_sweep.py",
    ),
    Mutation(
        "Resume: rows written after the last checkpoint stay in the file",
        "experiment/runner.py",
        'error = self._call(callbacks, checkpoints, 0, seconds=float("nan"))',
        "error = None",
        "experiment/test_sweep.py",
    ),
    Mutation(
        "Checkpoint: damaged data taken for good",
        "experiment/checkpoint.py",
        '_digest(np.asarray(array)) != entry["digest"]',
        'np.asarray(array).dtype.name == entry["digest"]',
        "experiment/test_checkpoint.py",
    ),
    Mutation(
        "Probability of improvement: ties count as losses",
        "experiment/statistics.py",
        "(above + equal / 2)",
        "(above + equal * 0)",
        "experiment/test_statistics.py",
    ),
    Mutation(
        "KL penalty with the wrong sign in the reward: paid for leaving",
        "rlhf/kl.py",
        "return rewards - kl_coef * kl\n",
        "return rewards + kl_coef * kl\n",
        "rlhf/test_kl.py",
    ),
    Mutation(
        "KL penalty of a sequence runs on into the next one",
        "rlhf/kl.py",
        "return jnp.where(done, 0, total), total",
        "return total, total",
        "rlhf/test_kl.py",
    ),
    Mutation(
        "adaptive KL coefficient moves away from its target",
        "rlhf/kl.py",
        "kl_coef * (1 + kl_rate * error)",
        "kl_coef * (1 - kl_rate * error)",
        "rlhf/test_kl.py",
    ),
    Mutation(
        "KL in the loss of RLOO and GRPO with the wrong sign",
        "rlhf/rloo.py",
        "loss += coef * per_episode",
        "loss -= coef * per_episode",
        "rlhf/test_rlhf_agents.py",
    ),
    Mutation(
        "KL in the loss of PPO with the wrong sign",
        "rlhf/ppo_kl.py",
        "return self.kl_coef * jnp.mean(estimates)",
        "return -self.kl_coef * jnp.mean(estimates)",
        "rlhf/test_rlhf_agents.py",
    ),
    Mutation(
        "KL to the behaviour policy instead of the frozen reference",
        "rlhf/rloo.py",
        "reference_logits = self.over_steps(state.reference_params, trajectory.obs)",
        "reference_logits = self.over_steps(state.params, trajectory.obs)",
        "rlhf/test_rlhf_agents.py",
    ),
    Mutation(
        "the reference is not frozen: it follows the policy",
        "rlhf/rloo.py",
        "params=params,\n            opt_state",
        "params=params,\n            reference_params=params,\n            opt_state",
        "rlhf/test_rlhf_agents.py",
    ),
    Mutation(
        "leave-one-out baseline that counts the episode itself",
        "rlhf/groups.py",
        "centred(returns) * (size / (size - 1))",
        "centred(returns)",
        "test_returns.py",
    ),
    Mutation(
        "DPO: chosen and rejected exchanged in the reference",
        "rlhf/dpo.py",
        "chosen, rejected, reference_chosen, reference_rejected, self.kl_coef",
        "chosen, rejected, reference_rejected, reference_chosen, self.kl_coef",
        "rlhf/test_rlhf_agents.py",
    ),
    Mutation(
        "Bradley–Terry loss: the rejected one is preferred",
        "rlhf/losses.py",
        "jax.nn.softplus(rejected_rewards - chosen_rewards)",
        "jax.nn.softplus(chosen_rewards - rejected_rewards)",
        "test_losses.py",
    ),
    Mutation(
        "double Q-learning: the coin is drawn with the exploration rule's key",
        Q_LEARNING,
        "coin = random.uniform(key_coin, shape) < 0.5",
        "coin = random.uniform(key_rule, shape) < 0.5",
        "test_keys.py",
    ),
    Mutation(
        "evaluation: every step has the same random numbers",
        "evaluation.py",
        "jax.random.fold_in(key_steps, length)",
        "jax.random.fold_in(key_steps, 0)",
        "test_keys.py",
    ),
    Mutation(
        "a resumed sweep chooses its batch size anew",
        "experiment/sweep.py",
        'batch_sizes = saved["batch_sizes"]',
        "batch_sizes = batch_size",
        "experiment/test_runner.py",
    ),
    Mutation(
        "steps per second without the number of seeds",
        "experiment/runner.py",
        "sum(m.num_episodes.size * steps for m, steps in pairs)",
        "sum(m.num_episodes.shape[1] * steps for m, steps in pairs)",
        "experiment/test_runner.py",
    ),
    Mutation(
        "PPO's KL is that of an environment's rollout instead of an episode",
        "rlhf/ppo_kl.py",
        "episode_kl = exact / jnp.maximum(num_ended, 1)",
        "episode_kl = exact / self.num_envs",
        "rlhf/test_ppo_kl.py",
    ),
    Mutation(
        "the optimum without a price breaks ties evenly instead of by the reference",
        "rlhf/optimum.py",
        "best = jnp.where(q == highest, log_reference, -jnp.inf)",
        "best = jnp.where(q == highest, 0.0, -jnp.inf)",
        "rlhf/test_optimum.py",
    ),
]
