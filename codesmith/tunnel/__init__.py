"""The forwarder: one background process with one SSH connection and one local Unix socket per node."""
