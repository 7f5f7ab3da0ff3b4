"""Who runs the services of this machine: by that a command can start one anew."""

from pathlib import Path

SYSTEMD = Path("/run/systemd/system")
"""Is there where systemd does."""
