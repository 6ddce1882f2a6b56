"""HTTP Digest access authentication, as much of RFC 7616 as a test server needs."""

from __future__ import annotations

import hashlib
import re
import secrets

REALM = "httpbin"
ALGORITHMS = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256, "SHA-512": hashlib.sha512}
PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


def credentials(authorization: str | None) -> dict[str, str]:
    """The parameters of an `Authorization: Digest …` field; none for any other scheme."""
    scheme, _, rest = (authorization or "").partition(" ")
    if scheme.lower() != "digest":
        return {}
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or token
        for name, quoted, token in PARAMETER.findall(rest)
    }


def challenge(qop: str | None, algorithm: str, *, stale: bool = False) -> str:
    """The value of `WWW-Authenticate` (RFC 7616, 3.3)."""
    offered = qop or "auth, auth-int"
    nonce, opaque = secrets.token_hex(16), secrets.token_hex(16)
    return (
        f'Digest realm="{REALM}", nonce="{nonce}", opaque="{opaque}", qop="{offered}", '
        f"algorithm={algorithm}, stale={'TRUE' if stale else 'FALSE'}"
    )


def is_right(given: dict[str, str], user: str, password: str, method: str, target: str, body: bytes) -> bool:
    """Whether the client knew the password (RFC 7616, 3.4.1); `target` is what this server was asked for."""
    algorithm = ALGORITHMS.get(given.get("algorithm", "MD5"))
    qop = given.get("qop")
    if algorithm is None or qop not in (None, "auth", "auth-int"):
        return False

    def h(*parts: str) -> str:
        return algorithm(":".join(parts).encode()).hexdigest()

    secret = h(user, given.get("realm", ""), password)
    request = h(method, target, algorithm(body).hexdigest()) if qop == "auth-int" else h(method, target)
    between = [given.get("nc", ""), given.get("cnonce", ""), qop] if qop else []
    wanted = h(secret, given.get("nonce", ""), *between, request)
    return given.get("username") == user and secrets.compare_digest(
        wanted.encode(), given.get("response", "").encode()
    )
