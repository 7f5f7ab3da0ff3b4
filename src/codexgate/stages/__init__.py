"""What happens around an answer, on every backend and for every caller's format: see `ports.Stage`."""
