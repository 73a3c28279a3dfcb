"""The MCP server of one workspace, for AI agents (https://modelcontextprotocol.io)."""
