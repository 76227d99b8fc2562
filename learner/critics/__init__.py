"""How values are learned: one file per critic; each gives a loss on plain arrays."""
