"""What the launch files need beside the nodes: a run folder that is ready before they start."""
