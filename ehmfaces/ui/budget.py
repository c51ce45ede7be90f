"""How much one visitor may ask for: token buckets, one set for each address.

Owns rates, debts and the sentence of a refusal. Knows neither HTTP nor what a request does.
"""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from ehmfaces.ui.settings import ServerSettings

FACES, PACKS, REQUESTS = "faces", "packs", "requests"
COMPUTE_PRICE = 5.0  # a request that computes counts like so many others
_MOST_ACCOUNTS = 10_000
_BURST_SHARE = 1 / 3  # of what a minute (faces), an hour (packs) or ten seconds (requests) gives


class Bucket:
    """Fills at a steady rate up to its size; may go into debt.

    Args:
        rate: Tokens a second; 0 = without limit.
        size: The most it holds; it starts full.
        now: The time now, in seconds.
    """

    def __init__(self, rate: float, size: float, now: float) -> None:
        """Start full."""
        self._rate, self._size = rate, max(size, 1.0)
        self._level, self._at = self._size, now

    def wait_sec(self, now: float, amount: float = 1.0) -> float:
        """Return the seconds until `amount` is there (at most a full bucket); 0 = it is there."""
        self._fill(now)
        missing = min(amount, self._size) - self._level
        return max(missing / self._rate, 0.0) if self._rate else 0.0

    def charge(self, amount: float, now: float) -> None:
        """Take so many tokens, into debt where there are fewer."""
        self._fill(now)
        self._level -= amount

    def _fill(self, now: float) -> None:
        self._level = min(self._size, self._level + (now - self._at) * self._rate)
        self._at = now


class Account:
    """The buckets of one visitor.

    Args:
        name: For the log; says nothing about the address.
        settings: The rates.
        now: The time now, in seconds.
    """

    def __init__(self, name: str, settings: ServerSettings, now: float) -> None:
        """Start with full buckets."""
        self.name = name
        faces, packs, requests = (
            settings.faces_per_minute,
            settings.packs_per_hour,
            settings.requests_per_minute,
        )
        self._buckets = {
            FACES: Bucket(faces / 60, faces * _BURST_SHARE, now),
            PACKS: Bucket(packs / 3600, packs * _BURST_SHARE, now),
            REQUESTS: Bucket(requests / 60, requests / 10, now),
        }
        self._rates = {
            FACES: f"{faces:g} faces a minute",
            PACKS: f"{packs:g} facepacks an hour",
            REQUESTS: f"{requests:g} requests a minute",
        }

    def take(self, kind: str, now: float) -> tuple[str, float]:
        """Pay for one request of a kind at the door.

        Returns:
            An empty text and 0, or the sentence of the refusal and the seconds to wait; nothing is paid then.
        """
        prices = {REQUESTS: 1.0} if kind == REQUESTS else {REQUESTS: COMPUTE_PRICE, kind: 1.0}
        for name, price in prices.items():
            if wait := self._buckets[name].wait_sec(now, price):
                sentence = (
                    f"You have asked for a lot: at most {self._rates[name]} are allowed here. "
                    f"Try again in {_duration(wait)}."
                )
                return sentence, wait
        for name, price in prices.items():
            self._buckets[name].charge(price, now)
        return "", 0.0

    def charge(self, kind: str, amount: float, now: float) -> None:
        """Pay for what a request turned out to cost; debts delay the next request."""
        self._buckets[kind].charge(amount, now)


class Accounts:
    """All visitors of late, the least recent forgotten first.

    Args:
        settings: The rates.
        clock: Gives the time in seconds.
    """

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nobody yet."""
        self._settings = settings
        self._clock = clock
        self._key = secrets.token_bytes(16)  # of this run: names in two logs cannot be joined
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, address: str) -> Account:
        """Return the account of an address."""
        name = hashlib.blake2b(address.encode(), digest_size=6, key=self._key).hexdigest()
        with self._lock:
            account = self._accounts.get(name) or Account(name, self._settings, self._clock())
            self._accounts[name] = account
            self._accounts.move_to_end(name)
            while len(self._accounts) > _MOST_ACCOUNTS:
                self._accounts.popitem(last=False)
            return account

    def take(self, account: Account, kind: str) -> tuple[str, float]:
        """Pay at the door, see `Account.take`."""
        with self._lock:
            return account.take(kind, self._clock())

    def charge(self, account: Account, kind: str, amount: float) -> None:
        """Pay afterwards, see `Account.charge`."""
        with self._lock:
            account.charge(kind, amount, self._clock())


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds > 100 else f"{max(seconds, 1):.0f} s"
