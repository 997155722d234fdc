"""Exploration rules as scalar loops, and a bandit played with them.

q is one state's estimates, counts how often each action was taken, t = Σ_a counts, and
u a uniform word in [0, 1). Ties go to the lowest action: a later action must be
strictly better; only ε-greedy may share them out. A uniform word is turned into an
action by walking along [0, 1):

    ε-greedy  [0, ε) is cut into A equal pieces, one for each action, and [ε, 1) into as
              many as there are best ones, or it belongs to the lowest of these
    softmax   [0, 1) is cut into pieces as long as the actions' probabilities
"""

import math

import numpy as np


def greedy(q):
    best = 0
    for a in range(1, len(q)):
        if q[a] > q[best]:
            best = a
    return best


def best_of(q, ties):
    best = [a for a in range(len(q)) if q[a] == max(q)]
    return best if ties == "random" else best[:1]


def epsilon_greedy(q, epsilon, u, ties="random"):
    pieces = [(epsilon / len(q), a) for a in range(len(q))]
    best = best_of(q, ties)
    pieces += [((1 - epsilon) / len(best), a) for a in best]
    end = 0.0
    for length, action in pieces:
        end += length
        if u < end:
            return action
    return best[-1]


def epsilon_greedy_probabilities(q, epsilon, ties="random"):
    probabilities = np.full(len(q), epsilon / len(q))
    for action in best_of(q, ties):
        probabilities[action] += (1 - epsilon) / len(best_of(q, ties))
    return probabilities


def softmax_probabilities(q, temperature):
    weights = np.array([math.exp((x - max(q)) / temperature) for x in q])
    return weights / weights.sum()


def softmax(q, temperature, u):
    # The best action comes last, so that rare ones are added to a small sum.
    best = int(np.argmax(q))
    cumulative = 0.0
    for a, probability in enumerate(softmax_probabilities(q, temperature)):
        cumulative += probability if a != best else 0.0
        if u < cumulative and a != best:
            return a
    return best


def _first_untried(counts):
    untried = [a for a, n in enumerate(counts) if n == 0]
    return untried[0] if untried else None


def ucb(q, counts, c):
    """argmax_a Q(a) + c sqrt(ln(t+1) / (N(a) + 1e-8)), as published."""
    if (untried := _first_untried(counts)) is not None:
        return untried
    log_t = math.log(sum(counts) + 1)
    return greedy(
        [x + c * math.sqrt(log_t / (n + 1e-8)) for x, n in zip(q, counts, strict=True)]
    )


def ucb1(q, counts, scale):
    """argmax_a Q(a) + scale · sqrt(2 ln t / N(a)), each action once before."""
    if (untried := _first_untried(counts)) is not None:
        return untried
    log_t = math.log(sum(counts))
    return greedy(
        [x + scale * math.sqrt(2 * log_t / n) for x, n in zip(q, counts, strict=True)]
    )


def bernoulli_kl(p, m):
    """kl(p, m) = p ln(p/m) + (1−p) ln((1−p)/(1−m)), with 0 ln 0 = 0."""
    total = 0.0
    for x, y in ((p, m), (1 - p, 1 - m)):
        if x > 0:
            total += x * math.log(x / y) if y > 0 else math.inf
    return total


def bernoulli_kl_upper_bound(p, divergence):
    """max{m in [p, 1] : kl(p, m) ≤ d}: kl(p, ·) rises from 0 at p, so bisect."""
    low, high = p, 1.0
    if bernoulli_kl(p, high) <= divergence:
        return high
    for _ in range(200):
        middle = (low + high) / 2
        if bernoulli_kl(p, middle) <= divergence:
            low = middle
        else:
            high = middle
    return low


def kl_ucb(q, counts, c, noise_scale=None):
    """argmax_a max{m : N(a) KL(Q(a), m) ≤ ln t + c ln ln t}, each action once before.

    ln ln t counts from where ln t ≥ 1 on. Between normal distributions
    KL = (m − Q)² / 2σ², so m = Q + σ sqrt(2 budget / N).
    """
    if (untried := _first_untried(counts)) is not None:
        return untried
    log_t = math.log(sum(counts))
    budget = log_t + c * math.log(max(log_t, 1))
    upper = []
    for x, n in zip(q, counts, strict=True):
        if noise_scale is None:
            upper.append(bernoulli_kl_upper_bound(x, budget / n))
        else:
            upper.append(x + noise_scale * math.sqrt(2 * budget / n))
    return greedy(upper)


def gaussian_posterior(q, counts, prior_mean, prior_scale, noise_scale):
    """Mean and standard deviation of each μ_a, from the product of two densities.

    Prior N(m_0, s_0²) and n rewards N(μ, σ²) with mean x: up to a constant,
    −2 log density = (μ−m_0)²/s_0² + n(μ−x)²/σ², a parabola in μ. Half its curvature is
    the precision, its minimum the mean.
    """
    means, scales = [], []
    for x, n in zip(q, counts, strict=True):
        precision = 1 / prior_scale**2 + n / noise_scale**2
        means.append((prior_mean / prior_scale**2 + n * x / noise_scale**2) / precision)
        scales.append(1 / math.sqrt(precision))
    return means, scales


def thompson_gaussian(q, counts, words, **prior):
    """Normal `words` [A]: argmax_a m_a + s_a z_a."""
    means, scales = gaussian_posterior(q, counts, **prior)
    return greedy([m + s * z for m, s, z in zip(means, scales, words, strict=True)])


def bernoulli_posterior(q, counts, prior_wins, prior_losses):
    """(α + wins, β + losses) of Beta for each arm; n rewards of mean x are n·x wins."""
    wins = [n * x for x, n in zip(q, counts, strict=True)]
    losses = [n - w for w, n in zip(wins, counts, strict=True)]
    return [prior_wins + w for w in wins], [prior_losses + x for x in losses]


def win_frequencies(samples):
    """How often each column of samples [M, A] is the largest of its row."""
    return np.bincount(samples.argmax(axis=1), minlength=samples.shape[1]) / len(
        samples
    )


def play_bandit(choose, pay, num_arms, num_pulls, initial_value=0.0):
    """Actions, rewards and final estimates of sample averages Q ← Q + (r − Q)/N.

    `choose(q, counts, i)` is the i-th action, `pay(action, i)` the i-th reward.
    """
    q, counts = [initial_value] * num_arms, [0] * num_arms
    actions, rewards = [], []
    for i in range(num_pulls):
        action = choose(q, counts, i)
        reward = pay(action, i)
        counts[action] += 1
        q[action] += (reward - q[action]) / counts[action]
        actions.append(action)
        rewards.append(reward)
    return np.array(actions), np.array(rewards), np.array(q)


def play_gradient_bandit(pay, words, num_arms, step_size, temperature=1.0):
    """The gradient bandit with the mean reward so far, this one included, as baseline.

    π = softmax(H/τ), and H(b) ← H(b) + α (r − r̄)(1[b = a] − π(b)). The mean is updated
    after it is used, and starts as the first reward.
    """
    preferences, baseline = [0.0] * num_arms, 0.0
    actions, rewards = [], []
    for i, u in enumerate(words):
        probabilities = softmax_probabilities(preferences, temperature)
        action = softmax(preferences, temperature, u)
        reward = pay(action, i)
        if i == 0:
            baseline = reward
        for b in range(num_arms):
            gradient = (1.0 if b == action else 0.0) - probabilities[b]
            preferences[b] += step_size * (reward - baseline) * gradient
        baseline += (reward - baseline) / (i + 1)
        actions.append(action)
        rewards.append(reward)
    return np.array(actions), np.array(rewards), np.array(preferences)
