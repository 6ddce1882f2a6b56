"""People and their passwords."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass

NAME_CHARACTERS = range(2, 41)
PASSWORD_CHARACTERS = range(10, 1001)
# 16 MiB and some 50 ms for each try (RFC 7914; OWASP's lower bound for interactive sign-ins).
COST = {"n": 2**14, "r": 8, "p": 5}
NOBODY = "0" * 32 + "$" + "0" * 128


@dataclass(frozen=True)
class Person:
    """Who is signed in."""

    id: int
    name: str
    is_admin: bool


def folded(name: str) -> str:
    """A name as it is compared."""
    return unicodedata.normalize("NFKC", " ".join(name.split())).casefold()


def check_new(name: str, password: str) -> tuple[str, str]:
    """The field that is wrong and why; empty where both will do."""
    if len(name) not in NAME_CHARACTERS or not name.isprintable():
        return "name", "a name has 2 to 40 letters"
    if len(password) not in PASSWORD_CHARACTERS:
        return "password", "a password has 10 characters or more"
    if folded(password) == folded(name):
        return "password", "your name is not a good password"
    return "", ""


def hashed(password: str) -> str:
    """``salt$hash``, both in hexadecimal."""
    salt = secrets.token_bytes(16)
    return salt.hex() + "$" + _scrypt(password, salt).hex()


def check_password(password: str, kept: str | None) -> bool:
    """Whether the password is the one that was hashed; takes as long where there is none."""
    salt, _, known = (kept or NOBODY).partition("$")
    right = hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(known))
    return right and kept is not None


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, maxmem=2**26, **COST)
