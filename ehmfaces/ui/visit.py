"""Who asks: the address behind proxies, the number of a request, the account that pays for it.

Owns how the door's knowledge reaches the handlers: in the ASGI scope of the request. Stores nothing.
"""

import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradio.context import LocalContext

from ehmfaces.ui.budget import FACES, Account, Accounts
from ehmfaces.ui.settings import Network

SCOPE_KEY = "ehmfaces.visit"


@dataclass
class Visit:
    """One request.

    Attributes:
        account: Who pays.
        accounts: Where the account is.
        request_id: Random; in the answer's headers, in the log and in the sentence of an unexpected error.
        pictures: How many were asked for.
    """

    account: Account
    accounts: Accounts
    request_id: str = field(default_factory=lambda: secrets.token_hex(8))
    pictures: int = 0


def current_visit() -> Visit | None:
    """Return the visit that the running handler works for; None outside of a server."""
    request = LocalContext.request.get(None)
    inner = getattr(request, "request", None)
    visit = getattr(inner, "scope", {}).get(SCOPE_KEY)
    return visit if isinstance(visit, Visit) else None


def charge_faces(count: int) -> None:
    """Count the pictures of the running request; the door took one of them already."""
    visit = current_visit()
    if visit is None:
        return
    visit.pictures += count
    visit.accounts.charge(visit.account, FACES, count - 1)


def client_address(scope: Mapping[str, Any], trusted: Sequence[Network]) -> str:
    """Return the address that pays: the peer's, or the one that trusted proxies report.

    X-Forwarded-For is read from its end, since everything before the first trusted entry may be made up.
    IPv6 addresses are cut to the /64 that one customer has.
    """
    peer = (scope.get("client") or ("",))[0]
    hops = [*_forwarded(scope), peer]
    address = hops.pop()
    while hops and _is_in(address, trusted):
        address = hops.pop()
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return peer
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ip.version == 6 else str(ip)


def _forwarded(scope: Mapping[str, Any]) -> list[str]:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return [part.strip() for part in ",".join(values).split(",") if part.strip()]


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in networks)
