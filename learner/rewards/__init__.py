"""Rewards that are learned while practising: classifiers of demonstrations against what a policy visits."""
