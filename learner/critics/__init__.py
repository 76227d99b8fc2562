"""How values are learned: one file per critic (`learner.parts.CriticPart`), beside `ensemble` and `heads`, which they share."""
