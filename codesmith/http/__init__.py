"""HTTP/1.1 on local sockets: what the client, the forwarder's port and its refusals share."""
