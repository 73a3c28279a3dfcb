"""Directories of users, which root makes, closes and removes without following what a user put there."""
