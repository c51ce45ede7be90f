"""What the owner of a server may set, and the defaults for this machine, a network and a Space.

Owns names, defaults and the reading of environment variables. Does not enforce anything.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any, TypeVar

from ehmfaces.errors import InputError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")

_PREFIX = "EHMFACES_"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PRIVATE = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "fc00::/7",
    "::1",
)


@dataclass(frozen=True)
class ServerSettings:
    """How the server treats its visitors; every field can be set as EHMFACES_FIELD.

    Attributes:
        faces_per_minute: Pictures of one visitor on average; 0 = no limit.
        packs_per_hour: Facepacks of one visitor; 0 = no limit.
        requests_per_minute: Requests of one visitor that change or compute something; 0 = no limit.
        trusted_proxies: Networks (separated by commas) whose X-Forwarded-For is believed; "private" stands
            for the private networks, empty for none.
        allowed_hosts: Names (separated by commas) by which the server may be called; empty = any.
        keep_files_sec: Uploads and results stay so long after their last change.
        max_disk_bytes: Uploads are refused while all files together take more.
        grace_sec: After SIGTERM everything has ended within so many seconds.
    """

    faces_per_minute: float = 0.0
    packs_per_hour: float = 0.0
    requests_per_minute: float = 0.0
    trusted_proxies: str = ""
    allowed_hosts: str = ""
    keep_files_sec: float = 3 * 3600.0
    max_disk_bytes: int = 8 * 2**30
    grace_sec: float = 25.0

    @property
    def proxy_networks(self) -> tuple[Network, ...]:
        """The trusted networks.

        Raises:
            InputError: One of them is no network.
        """
        names = [name for name in _words(self.trusted_proxies) if name != "private"]
        if "private" in _words(self.trusted_proxies):
            names += _PRIVATE
        try:
            return tuple(ipaddress.ip_network(name) for name in names)
        except ValueError as error:
            raise InputError(
                f"{_PREFIX}TRUSTED_PROXIES: {error}. Give networks like 10.0.0.0/8, or private."
            ) from error

    @property
    def host_names(self) -> frozenset[str]:
        """The allowed names, in lower case; empty = any."""
        return frozenset(name.lower() for name in _words(self.allowed_hosts))


PUBLIC = ServerSettings(faces_per_minute=240.0, packs_per_hour=6.0, requests_per_minute=600.0)
SPACE = replace(PUBLIC, trusted_proxies="private")
LOCAL = ServerSettings(allowed_hosts=",".join(_LOOPBACK))


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine only.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    return host.strip("[]").lower() in _LOOPBACK


def settings_for(host: str, on_space: bool, environ: Mapping[str, str] | None = None) -> ServerSettings:
    """Return the defaults for a server that listens at `host`, changed by the environment.

    Raises:
        InputError: A variable holds no number, or a proxy is no network.
    """
    defaults = SPACE if on_space else LOCAL if is_loopback(host) else PUBLIC
    settings = from_environment(defaults, environ)
    _ = settings.proxy_networks
    return settings


def from_environment(defaults: T, environ: Mapping[str, str] | None = None) -> T:
    """Return a frozen dataclass of numbers and texts, changed by EHMFACES_FIELD variables.

    Raises:
        InputError: A variable holds no number of 0 or more where one is wanted.
    """
    environ = os.environ if environ is None else environ
    changes: dict[str, Any] = {}
    for field in fields(defaults):  # type: ignore[arg-type]
        name = _PREFIX + field.name.upper()
        if (text := environ.get(name, "").strip()) != "":
            changes[field.name] = _parse(name, text, type(getattr(defaults, field.name)))
    return replace(defaults, **changes)  # type: ignore[type-var]


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is str:
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not isfinite(value) or value < 0 or (kind is int and value != int(value)):
        raise InputError(f'{name} is "{text[:40]}". Give a {"whole " * (kind is int)}number of 0 or more.')
    return kind(value)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
