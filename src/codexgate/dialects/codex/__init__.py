"""The Codex app-server's protocol: its names (`wire`), what we ask (`ask`), what it says (`decode`)."""
