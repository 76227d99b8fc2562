"""MuJoCo scenes: a Franka Panda on a table, with task pairs that undo each other.

Knows arrays and physics, nothing of robots' protocols, learning or ROS. Importing it chooses the OpenGL backend.
"""

from simulation.rendering import choose_backend

choose_backend()
