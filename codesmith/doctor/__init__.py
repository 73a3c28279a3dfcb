"""Checks everything between this machine and a node's agent, and says what to do about what is wrong."""
