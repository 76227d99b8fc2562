"""Servers of external policies (recipe `policy.kind: external`): a model in a process of its own behind `etude.policy_server`.

They import `etude` and nothing else of the project; torch and its friends are needed only here.
"""
