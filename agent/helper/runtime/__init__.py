"""Commands of a workspace: transient units that PID 1 starts, their limits and their number."""
