"""One background process, one SSH connection and one local Unix socket per node."""
