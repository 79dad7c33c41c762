"""Is this the user's password? bcrypt, off the event loop and remembered; the only importer of bcrypt.

A comparison takes 50 to 200 ms on purpose. So a right answer is remembered by a keyed digest, as long as the user's hash
stays the same; a wrong one costs its full time each time, and an unknown name costs what a known one does.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

REMEMBERED = 128
IN_LINE = 32  # guesses that may wait for the two threads; more are turned away at once
LONGEST = 72  # bytes of a password that bcrypt looks at: https://en.wikipedia.org/wiki/Bcrypt#Maximum_password_length


class TooManyGuesses(Exception):
    """More logins are waiting to be compared than we hold in line."""


class Passwords:
    """Compares logins with the users' hashes."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._threads = ThreadPoolExecutor(2, "bcrypt")
        self._waiting = 0

    async def right(self, users: Mapping[str, str], authorization: bytes) -> bool:
        """Does this Authorization header name one of `users` (name to bcrypt hash) with the right password?"""
        login = credentials(authorization)
        if login is None:
            return False
        user, password = login
        hashed = users.get(user) or _nobody(users)
        digest = self._digest(user, hashed, password)
        if digest in self._right:
            self._right.move_to_end(digest)
            return True
        if self._waiting >= IN_LINE:
            raise TooManyGuesses
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            matches = await loop.run_in_executor(self._threads, _compare, password, hashed) and user in users
        finally:
            self._waiting -= 1
        if matches:
            self._right[digest] = None
            while len(self._right) > REMEMBERED:
                self._right.popitem(last=False)
        return matches

    def _digest(self, user: str, hashed: str, password: bytes) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for part in (user.encode(), hashed.encode(), password):
            digest.update(b"%d:" % len(part) + part)
        return digest.digest()


def credentials(authorization: bytes) -> tuple[str, bytes] | None:
    """User and password of a Basic Authorization header; None when it is none."""
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode("utf-8"), password) if colon else None
    except ValueError:
        return None


def _compare(password: bytes, hashed: str) -> bool:
    import bcrypt  # half a megabyte that only those pay who have users

    if b"\0" in password:
        return False
    return bcrypt.checkpw(password[:LONGEST], hashed.encode())


def _nobody(users: Mapping[str, str]) -> str:
    """A hash that no password has, as dear as the dearest of the users'."""
    cost = max((hashed[4:6] for hashed in users.values()), default="10")
    return f"$2b${cost}${'.' * 53}"
