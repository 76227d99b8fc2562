"""The vocabulary that every part of Etude speaks: specs, steps, episodes, configuration, policy files, metrics.

This package imports none of the others (`actor`, `learner`, `reward_classifiers`, `simulation`, `dashboard`).
"""
