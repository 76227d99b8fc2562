"""Who undoes the task, as the learner sees it: one file per strategy, each says what the policy of a direction is rewarded for.

`instruction` (one policy for both phases) rewards as `backward_policy` does: each row by the success of its own instruction.
The actor's side of it, who acts when, is the practice machine (`actor.practice`).
"""
