"""git for workspaces: the grammar of its inputs, and how it runs as the workspace's login."""
