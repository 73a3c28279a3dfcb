"""Directories of users: root makes, seals, transfers and removes them without following links of a user."""
