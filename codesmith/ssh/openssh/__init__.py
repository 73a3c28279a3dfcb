"""The second carrier: connections that the operator's own `ssh` program holds."""
