"""Completion of command lines for bash, zsh and fish."""
