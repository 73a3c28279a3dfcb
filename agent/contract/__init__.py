"""The contract: methods, the records they take and return, the check of parameters, the OpenRPC document."""
