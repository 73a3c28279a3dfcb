"""The command line: Invoke without its traps, what people type, and what they see."""
