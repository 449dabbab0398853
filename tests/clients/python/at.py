"""Where the servers are, as `run` tells it, and what both suites of redis-py need."""

import os
import unittest

HOST, PORT = os.environ["CLIENTS_ADDRESS"].rsplit(":", 1)
PORT = int(PORT)

LOCKED = os.environ.get("CLIENTS_LOCKED_ADDRESS")
"""A server that asks for `PASSWORD`; there is none where `run` was given an address."""
LOCKED_HOST, LOCKED_PORT = LOCKED.rsplit(":", 1) if LOCKED else (None, 0)
LOCKED_PORT = int(LOCKED_PORT)
PASSWORD = os.environ.get("CLIENTS_PASSWORD")
needs_locked = unittest.skipUnless(LOCKED, "no server with a password")

EVERY_BYTE = bytes(range(256)) + b"\r\n$-1\r\n*0\r\n"
"""Each byte there is, and what would end a value if it were not told by its length."""

FIVE_MB = bytes(i * 7919 % 251 for i in range(1000)) * 5000
"""Five million bytes whose order shows a part that is lost or twice."""
