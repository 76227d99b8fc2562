"""Who undoes the task: what the backward policy is rewarded for."""
