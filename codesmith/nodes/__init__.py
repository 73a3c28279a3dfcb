"""nodes.yaml: which nodes there are, and which of them a command means."""
