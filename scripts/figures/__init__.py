"""The textbook's figures, a module for each part of it."""
