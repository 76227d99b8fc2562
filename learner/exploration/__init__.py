"""Bonuses that make practice look for what is new."""
