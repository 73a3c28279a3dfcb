"""Look at everything that has to be right between this machine and a node's agent, and say what is not."""
