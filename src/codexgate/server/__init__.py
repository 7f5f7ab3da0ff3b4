"""The HTTP surface: guard, routes, replies, lifetime. Knows the use cases, no backend and no store."""
