"""Homes and directories of workspaces: root makes, seals and removes them without following links of a user."""
