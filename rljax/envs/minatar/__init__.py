"""Four games of MinAtar on a board of 10 × 10, with the rules of its package."""

from rljax.envs.minatar.asterix import Asterix
from rljax.envs.minatar.breakout import Breakout
from rljax.envs.minatar.freeway import Freeway
from rljax.envs.minatar.space_invaders import SpaceInvaders

__all__ = ["Asterix", "Breakout", "Freeway", "SpaceInvaders"]
