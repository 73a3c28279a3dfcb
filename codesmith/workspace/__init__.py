"""The operator's side of one workspace: logging in, and credentials for clones."""
