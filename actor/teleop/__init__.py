"""Teleoperation: devices in the hand of a person, one file per device, and what turns their axes into commands.

A device file turns what the device sends into named axes and buttons (`Sample`); a mapping file (robot_configs/teleop) turns
those into a command; the actor's `actor.takeover` turns a command into an action. None of them knows ROS:
`etude_nodes.teleop_node` publishes.
"""
