"""The CodeSmith agent: what travels to a node. Python 3.9+, the standard library and what is packed beside it."""

__version__ = "0.1.0"
API_VERSION = "1.0.0"
