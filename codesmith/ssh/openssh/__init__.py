"""The second carrier: the operator's own `ssh` program."""
