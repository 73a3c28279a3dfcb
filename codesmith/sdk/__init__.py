"""The typed client of a node's agent; `codesmith.connect` opens one."""
