"""The contract: what a method is, the records it takes and gives, the check of parameters, the OpenRPC document."""
