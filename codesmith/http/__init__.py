"""HTTP/1.1 on local sockets, for the client and for the forwarder's ports and refusals."""
