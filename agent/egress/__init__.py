"""The one way out of a workspace with a list of hosts: a proxy that serves nothing else."""
