"""Ports for servers that are told theirs, and that may stop and start again."""

import secrets
import socket


def own_port() -> int:
    """A free port of this machine that stays free while its server is away.

    It is below those that the kernel gives to who asks for any, as the other tests do all the time.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
