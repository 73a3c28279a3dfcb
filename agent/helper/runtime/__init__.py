"""The runtimes of workspaces: units that PID 1 starts on demand, their isolation and their limits."""
