"""How the policy gets better, given a critic. One module per kind, each after `learner.parts.ImprovementPart`."""
