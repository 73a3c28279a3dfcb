"""One command at many nodes."""
