"""Policies on token sequences by loops over all of them, and gradients by their logits.

A policy is a table of logits [U, V], a row per unfinished prefix in the order of
`rows`. With s_t the row of a text's t-th prefix, log π(y) = Σ_t log π(y_t|s_t), and the
score ∂ log π(y)/∂z is Σ_t of one_hot(y_t) − π(·|s_t) in row s_t.
"""

import numpy as np

from . import distributions  # this folder alone


def rows(text, vocabulary_size):
    """The row of each prefix of a text: by length, then by digits."""
    found, code = [], 0
    for length, token in enumerate(text):
        found.append(sum(vocabulary_size**h for h in range(length)) + code)
        code = code * vocabulary_size + token
    return found


def texts(vocabulary_size, horizon):
    """All whole sequences in the order of their digits."""
    return list(np.ndindex(*[vocabulary_size] * horizon))


def log_probs(logits, text):
    """log π(y_t|s_t) of each token, [H]."""
    log_pi = distributions.log_softmax(logits)
    return np.array(
        [log_pi[s, y] for s, y in zip(rows(text, logits.shape[1]), text, strict=True)]
    )


def scores(logits, text):
    """∂ log π(y_t|s_t)/∂z of each token, [H, U, V]."""
    out = np.zeros((len(text), *logits.shape))
    for t, (s, y) in enumerate(zip(rows(text, logits.shape[1]), text, strict=True)):
        out[t, s] = distributions.log_prob_gradient(logits[s], y)
    return out


def expectation(logits, horizon, of_text):
    """Σ_y π(y) f(y)."""
    return sum(
        np.exp(log_probs(logits, text).sum()) * of_text(text)
        for text in texts(logits.shape[1], horizon)
    )


def reward_gradient(logits, rewards, horizon):
    """∇E_π[r] = Σ_y π(y) r(y) ∇log π(y)."""
    by_text = dict(zip(texts(logits.shape[1], horizon), rewards, strict=True))
    return expectation(
        logits, horizon, lambda y: by_text[y] * scores(logits, y).sum(axis=0)
    )


def kl_gradient(logits, reference, horizon):
    """∇KL(π‖ρ) = Σ_y π(y) log(π(y)/ρ(y)) ∇log π(y), as E_π[∇log π(y)] = 0."""
    return expectation(
        logits,
        horizon,
        lambda y: (
            (log_probs(logits, y) - log_probs(reference, y)).sum()
            * scores(logits, y).sum(axis=0)
        ),
    )


def step_kl_gradient(logits, reference, horizon):
    """E_π[Σ_t ∇KL(π(·|s_t)‖ρ(·|s_t))]: where the policy comes is held fixed."""
    return _over_steps(logits, horizon, reference, distributions.kl_gradient)


def step_reverse_kl_gradient(logits, reference, horizon):
    """E_π[Σ_t ∇KL(ρ(·|s_t)‖π(·|s_t))]."""
    return _over_steps(
        logits,
        horizon,
        reference,
        lambda z, w: distributions.kl_reference_gradient(w, z),
    )


def _over_steps(logits, horizon, reference, gradient):
    def of_text(text):
        out = np.zeros_like(logits)
        for s in rows(text, logits.shape[1]):
            out[s] += gradient(logits[s], reference[s])
        return out

    return expectation(logits, horizon, of_text)


def group_gradient(
    logits,
    old_logits,
    reference,
    episodes,
    group_size,
    *,
    kl_coef,
    kl_in,
    estimate,
    credit,
    clip_epsilon=None,
    deviation=False,
    leave_one_out=False,
):
    """The gradient of RLOO's or GRPO's loss, episode by episode and step by step.

    Episodes are lists of (row, action, reward). With R the rewards to go, less β k_t of
    the policy that acted where it is paid there, A = R − baseline (of the same step in
    the others, 0 where they have ended), divided by sqrt(var + 1e-8) if `deviation`:

        ∂L/∂z = 1/N Σ_n Σ_t [−r A (inside the clip) ∇log π + β ∇k_t (if in the loss)]
    """
    longest = max(map(len, episodes))
    count = len(episodes)
    to_go = np.zeros((longest, count))
    for n, episode in enumerate(episodes):
        total = 0.0
        for t in reversed(range(len(episode))):
            s, a, reward = episode[t]
            total += reward
            if kl_in == "reward":
                total -= (
                    kl_coef * estimate(_at(old_logits, s, a), _at(reference, s, a))[0]
                )
            to_go[t, n] = total
        if credit == "sequence":
            to_go[:, n] = total
    gradient = np.zeros_like(logits)
    for n, episode in enumerate(episodes):
        start = n - n % group_size
        for t, (s, a, _) in enumerate(episode):
            group = to_go[t, start : start + group_size]
            others = np.delete(group, n - start) if leave_one_out else group
            advantage = to_go[t, n] - others.mean()
            if deviation:
                advantage /= np.sqrt(group.var() + 1e-8)
            ratio = np.exp(_at(logits, s, a) - _at(old_logits, s, a))
            if clip_epsilon is not None:
                beyond = (
                    ratio > 1 + clip_epsilon
                    if advantage >= 0
                    else ratio < 1 - clip_epsilon
                )
                ratio = 0.0 if beyond else ratio
            weight = -ratio * advantage
            if kl_in == "loss" and estimate is not None:
                slope = estimate(_at(logits, s, a), _at(reference, s, a))[1]
                weight += kl_coef * slope
            gradient[s] += weight * distributions.log_prob_gradient(logits[s], a)
            if kl_in == "loss" and estimate is None:  # exact
                gradient[s] += kl_coef * distributions.kl_gradient(
                    logits[s], reference[s]
                )
    return gradient / count


def dpo_gradient(logits, reference, chosen, rejected, kl_coef):
    """∂L/∂z of L = mean log(1 + e^{−m}), m = β[log π/ρ(y⁺) − log π/ρ(y⁻)].

    −σ(−m) β (∇log π(y⁺) − ∇log π(y⁻)), mean over the pairs.
    """
    gradient = np.zeros_like(logits)
    for above, below in zip(chosen, rejected, strict=True):
        ratios = [
            (log_probs(logits, y) - log_probs(reference, y)).sum()
            for y in (above, below)
        ]
        margin = kl_coef * (ratios[0] - ratios[1])
        difference = scores(logits, above).sum(0) - scores(logits, below).sum(0)
        gradient -= kl_coef * difference / (1 + np.exp(margin))
    return gradient / len(chosen)


def _at(logits, row, action):
    return distributions.log_softmax(logits[row])[action]
