"""Exploration bonuses (none yet)."""
