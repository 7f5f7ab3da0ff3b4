"""Adapters that carry a dialect's bytes to a model and back; each implements `ports.Backend`."""
