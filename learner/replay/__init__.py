"""The RAM ring over the episode store, and what a batch is made of."""
