"""Policy classes: one file each, a `learner.parts.PolicyPart` (init, sample, act, supervised_loss)."""
