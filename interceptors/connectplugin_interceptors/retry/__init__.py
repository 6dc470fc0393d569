"""Trying again: the policy, the decision, the interceptor."""
