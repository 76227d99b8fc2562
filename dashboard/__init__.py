"""The web page of a run: live cameras, progress, and the few commands an operator needs.

`run_view` gathers what is known (no web, no ROS), `app` serves it (no ROS), and the ROS node in `etude_nodes` feeds it.
"""
