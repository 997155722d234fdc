"""Linear-quadratic regulators in NumPy: values by stepping, gradients by hand.

The system is s' = A s + B u + w with Cov(w) = W and Cov(s_0) = S, both means 0; the
cost of a step is sᵀQs + uᵀRu, and step t counts γ^t. For a policy u = −K s + σ ε, the
closed loop is F = A − BK, and the noise of a step W + B diag(σ²) Bᵀ = N.

The total cost is tr(P S) + [Σ_i R_ii σ_i² + γ tr(P N)] / (1 − γ) with
P = Q + KᵀRK + γ FᵀPF. Let Σ be the discounted sum of E[s sᵀ], which obeys
Σ = S + γ/(1 − γ) N + γ F Σ Fᵀ. Differentiating P's equation by K gives
dP = dKᵀE + EᵀdK + γ FᵀdP F with E = (R + γ BᵀPB) K − γ BᵀPA. The last term repeats the
first two for the states to come; summed up, they weigh E with Σ:

    dJ/dK = −2 E Σ,     dJ/dσ_i = −2 σ_i (R + γ BᵀPB)_ii / (1 − γ)
"""

import numpy as np


def cost_to_go(A, B, Q, R, K, discount, num_steps=5000):
    """P of the policy u = −K s, by so many steps from 0."""
    P, F = np.zeros_like(Q), A - B @ K
    for _ in range(num_steps):
        P = Q + K.T @ R @ K + discount * F.T @ P @ F
    return P


def gradients(A, B, Q, R, K, sigma, W, S, discount):
    """J, dJ/dK and dJ/dσ of the policy u = −K s + σ ε, J being minus the cost."""
    P, F = cost_to_go(A, B, Q, R, K, discount), A - B @ K
    noise = W + B @ np.diag(sigma**2) @ B.T
    ahead = discount / (1 - discount)
    J = -np.trace(P @ S) - ahead * np.trace(P @ noise)
    J -= np.diag(R) @ sigma**2 / (1 - discount)
    seen = np.zeros_like(Q)
    for _ in range(5000):
        seen = S + ahead * noise + discount * F @ seen @ F.T
    curvature = R + discount * B.T @ P @ B
    dK = -2 * (curvature @ K - discount * B.T @ P @ A) @ seen
    return J, dK, -2 * sigma * np.diag(curvature) / (1 - discount)


def finite_return(A, B, Q, R, gains, bias, sigma, W, S, discount):
    """J of u_t = k − K_t s_t + σ ε over as many steps as there are gains [T, M, N].

    Forwards in time, from the mean and the covariance of the state.
    """
    mean, cov, total = np.zeros(len(A)), S, 0.0
    for t, K in enumerate(gains):
        control = bias - K @ mean
        spread = K @ cov @ K.T + np.diag(sigma**2)
        cost = mean @ Q @ mean + np.trace(Q @ cov)
        cost += control @ R @ control + np.trace(R @ spread)
        total -= discount**t * cost
        F = A - B @ K
        mean = A @ mean + B @ control
        cov = F @ cov @ F.T + W + B @ np.diag(sigma**2) @ B.T
    return total


def best_gains(A, B, Q, R, discount, horizon):
    """The gains [T, M, N] of Bellman's backward recursion."""
    P, gains = np.zeros_like(Q), []
    for _ in range(horizon):
        curvature = R + discount * B.T @ P @ B
        K = np.linalg.solve(curvature, discount * B.T @ P @ A)
        gains.append(K)
        P = Q + discount * A.T @ P @ A - K.T @ curvature @ K
    return np.array(gains[::-1])
