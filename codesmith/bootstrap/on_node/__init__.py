"""Programs that are sent to a node and run there: Python 3.9, standard library only."""
