"""Inside a workspace's runtime: starts, pumps and ends what the front end asks for, as the workspace's login."""
