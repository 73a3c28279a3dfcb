"""Installs the agent on nodes: probe, plan, apply, prove; verify, roll back and uninstall."""
