"""The command line: Invoke without its traps, arguments and output."""
