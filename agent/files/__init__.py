"""Files of a workspace, as its login."""
