"""What the gate keeps, each store an adapter of a port in `ports`. They do not see each other."""
