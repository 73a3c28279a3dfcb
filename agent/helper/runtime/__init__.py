"""Enter a workspace and run jobs in it: transient units that PID 1 starts, their limits and their number."""
