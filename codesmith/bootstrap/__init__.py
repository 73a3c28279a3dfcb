"""Prepare a node: probe, plan, apply, prove."""
