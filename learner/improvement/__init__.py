"""How the policy gets better, given a critic."""
