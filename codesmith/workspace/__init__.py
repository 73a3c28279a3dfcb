"""The operator's side of one workspace."""
