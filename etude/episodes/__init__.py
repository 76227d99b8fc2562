"""Episodes on disk: the zarr store that the learner writes and everybody reads, its checks and its commands."""
