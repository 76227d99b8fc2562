"""Everything that trains: critics, policies, improvement, resets, replay, and the threads around them.

Imports `etude` only. A recipe picks one part per axis; `learner.recipe` composes them into one agent.
"""
