"""Callers' formats: each parses its own request and writes its own answer. Pure; none knows a backend."""
