"""Image in, probability of success out: the reward of a robot that has only cameras.

`train_classifier` makes a folder from an episode store, `load_judge` turns the folder into an `etude.robot.Judge`. Imports
only `etude`; runs without the learner's code.
"""

from reward_classifiers.files import ClassifierError
from reward_classifiers.judge import ImageJudge, load_judge
from reward_classifiers.train import train_classifier

__all__ = ["ClassifierError", "ImageJudge", "load_judge", "train_classifier"]
