"""Who really calls when proxies stand between: which hops of `X-Forwarded-For` are believed.

Used by the gateway (connections per address) and by HTTP (wrong keys per address). Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

__all__ = ["ProxyNetworks"]


class ProxyNetworks:
    """Networks whose `X-Forwarded-For` is believed."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(text, strict=False) for text in networks]

    def client_address(self, peer: str, forwarded_for: str) -> str:
        """Return the address nearest to us that no trusted proxy vouches for as its own.

        Args:
            peer: Address of the socket's other end; empty for Unix sockets.
            forwarded_for: All `X-Forwarded-For` headers joined by commas, nearest hop last.
        """
        address = peer
        hops = forwarded_for.split(",")
        while self.is_trusted(address) and hops:
            hop = hops.pop().strip()
            if not _is_address(hop):
                break
            address = hop
        return address

    def is_trusted(self, address: str) -> bool:
        """Whether this address is a proxy of ours."""
        if not self._networks:
            return False
        return _is_address(address) and any(
            ipaddress.ip_address(address) in network for network in self._networks
        )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
