"""Finds why it does not work, and says the one command that mends it."""
