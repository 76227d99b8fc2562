"""Which network addresses stay on this machine: what listens beyond them needs more protection."""

from __future__ import annotations

import ipaddress


def is_loopback(name: str) -> bool:
    """True for ``localhost`` and for loopback addresses."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
