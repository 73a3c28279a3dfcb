"""git for workspaces: what it may be given, and how it runs as the workspace's login."""
