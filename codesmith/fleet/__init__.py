"""One command on many nodes, or on one."""
