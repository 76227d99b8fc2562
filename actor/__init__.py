"""Everything that runs beside a robot: robots, control loop, practice machine, safety filter, help, policy runner, outbox.

Imports `etude` only (and `simulation` in `actor.robots.mujoco`): a robot computer never needs the training code.
"""
