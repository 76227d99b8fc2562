"""Who undoes the task, as the learner sees it: one file per strategy, each says what the policy of a direction is rewarded for.

The actor's side of it, who acts when, is the practice machine (`actor.practice`).
"""
