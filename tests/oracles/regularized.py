"""The KL-regularised objective over whole sequences, by enumeration.

π(y|x) = Π_h π(y_h | x, y_<h), and for each prompt x

    π*(y|x) = π_ref(y|x) exp(r(x,y)/β) / Z(x),   max_π J(π) = β log Z(x)
"""

import numpy as np


def first_index(vocabulary_size, length):
    """How many prefixes are shorter."""
    return sum(vocabulary_size**h for h in range(length))


def sequence_probabilities(policy, vocabulary_size, horizon, prompt=0):
    """π(y|x) of all V^H sequences in the order of their digits, from π [S, V]."""
    start = prompt * first_index(vocabulary_size, horizon + 1)
    probabilities = []
    for text in np.ndindex(*[vocabulary_size] * horizon):
        probability, code = 1.0, 0
        for h, token in enumerate(text):
            state = start + first_index(vocabulary_size, h) + code
            probability *= policy[state, token]
            code = code * vocabulary_size + token
        probabilities.append(probability)
    return np.array(probabilities)


def optimum(reference, rewards, kl_coef):
    """π*(y|x) and J(π*) for one prompt, from π_ref(y|x) and r(x,y), both [V^H].

    As Σ π_ref = 1, log Z = max r/β + log1p(Σ π_ref expm1((r − max r)/β)), which keeps
    its digits where β is large.
    """
    highest = rewards.max()
    tilted = (reference * np.expm1((rewards - highest) / kl_coef)).sum()
    weights = reference * np.exp((rewards - highest) / kl_coef)
    return weights / weights.sum(), highest + kl_coef * np.log1p(tilted)


def objective(policy, reference, rewards, kl_coef):
    """(J, E[r], KL) of a distribution over sequences."""
    live = policy > 0
    kl = (policy[live] * np.log(policy[live] / reference[live])).sum()
    expected = (policy * rewards).sum()
    return expected - kl_coef * kl, expected, kl
