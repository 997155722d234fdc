"""The mountain car of Sutton and Barto (2018), example 10.1, in scalars of float64."""

import math


def step(position, velocity, action):
    """(position, velocity, reward, terminated) after one step; action 0, 1 or 2.

    ẋ' = bound[ẋ + 0.001 A − 0.0025 cos(3x)] and x' = bound[x + ẋ'] with A = −1, 0, 1.
    The left bound resets the velocity to 0; at the right one the episode is over.
    """
    throttle = {0: -1, 1: 0, 2: 1}[action]
    velocity += 0.001 * throttle - 0.0025 * math.cos(3 * position)
    velocity = max(-0.07, min(0.07, velocity))
    position += velocity
    if position <= -1.2:
        position, velocity = -1.2, max(velocity, 0.0)
    if position >= 0.5:
        return 0.5, velocity, -1.0, True
    return position, velocity, -1.0, False
