"""Programs that travel to a node: each file runs alone there, on Python 3.9 and its standard library."""
