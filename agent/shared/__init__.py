"""Modules that the front end, the helper and git jobs share. They import no other room of the agent."""
