"""The record of what CodeSmith made on this node, and the lock for changing it."""
