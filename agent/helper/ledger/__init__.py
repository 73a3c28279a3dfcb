"""The truth about what is ours, and the lock under which it changes."""
