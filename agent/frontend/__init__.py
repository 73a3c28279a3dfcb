"""The front end: serves the contract on the agent's socket, unprivileged, and remembers what it shows."""
