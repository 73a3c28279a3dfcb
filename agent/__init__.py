"""The CodeSmith agent, which is installed on nodes. Python 3.9+, the standard library and what is packed with it."""

__version__ = "0.2.0"
API_VERSION = "1.0.0"
