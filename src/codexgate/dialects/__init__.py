"""What the internal language means to each backend. Pure; none knows a caller's format or a socket."""
