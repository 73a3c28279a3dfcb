"""SSH to the nodes: connections, host keys, scripts, the packed agent, and bootstrap."""
