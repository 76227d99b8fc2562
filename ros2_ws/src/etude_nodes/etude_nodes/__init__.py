"""The composition root: thin rclpy nodes over the ROS-free packages, and the supervisor behind `etude practice`."""
