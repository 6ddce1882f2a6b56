"""Writes `signed.tsv`: values signed by itsdangerous and Flask, for `tests/sign.rs`.

Needs both installed; made with itsdangerous 2.2.0 and Flask 3.1.3. Columns: kind, digest, derivation, keys
(newest first, with commas), salt, unix time or `-`, payload in hexadecimal digits, token.
"""

from __future__ import annotations

import hashlib
import json
import time
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID

import flask
from flask.sessions import SecureCookieSessionInterface, session_json_serializer
from itsdangerous import Signer, TimestampSigner, URLSafeSerializer, URLSafeTimedSerializer

NOW = 1_700_000_000
time.time = lambda: NOW
DIGESTS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha512": hashlib.sha512}
DERIVATIONS = ["django-concat", "hmac", "concat", "none"]
KEYS = [["secret"], ["newest", "older"], ["k" * 150]]
TEXTS = ["", "value", "a.b.c", "grüße", "x" * 40]
VALUES = [{}, {"id": 42, "name": "Zoë"}, ["a", None, 1.5, True], {"long": "abc" * 40}, "x"]

rows = []


def row(
    kind: str, digest: str, derivation: str, keys: list[str], salt: str, payload: bytes, token: object
) -> None:
    text = token.decode() if isinstance(token, bytes) else str(token)
    moment = "-" if kind in {"signer", "serializer"} else str(NOW)
    rows.append("\t".join([kind, digest, derivation, ",".join(keys), salt, moment, payload.hex(), text]))


for digest, method in DIGESTS.items():
    for derivation in DERIVATIONS:
        kwargs = {"key_derivation": derivation, "digest_method": method}
        for keys in KEYS:
            for text in TEXTS:
                # itsdangerous wants the newest key last
                signer = Signer(keys[::-1], salt="some salt", **kwargs)
                row("signer", digest, derivation, keys, "some salt", text.encode(), signer.sign(text))
                timed = TimestampSigner(keys[::-1], salt="some salt", **kwargs)
                row("timestamp", digest, derivation, keys, "some salt", text.encode(), timed.sign(text))
        for value in VALUES:
            payload = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
            plain = URLSafeSerializer("secret", salt="it", signer_kwargs=kwargs)
            row("serializer", digest, derivation, ["secret"], "it", payload, plain.dumps(value))
            serializer = URLSafeTimedSerializer("secret", salt="it", signer_kwargs=kwargs)
            row("timed", digest, derivation, ["secret"], "it", payload, serializer.dumps(value))

app = flask.Flask("vectors")
app.secret_key = "flask secret"
app.config["SECRET_KEY_FALLBACKS"] = ["older secret"]
serializer = SecureCookieSessionInterface().get_signing_serializer(app)
sessions = [
    {},
    {"uid": 7, "_permanent": True},
    {
        "t": (1, "a"),
        "b": b"\x00\xff",
        "u": UUID(int=5),
        "d": datetime(2024, 2, 29, tzinfo=timezone.utc),
        "é": "ü",
    },
    {"cart": [{"sku": f"item-{n}", "count": n} for n in range(40)]},
]
for session in sessions:
    payload = session_json_serializer.dumps(session).encode()
    row(
        "timed",
        "sha1",
        "hmac",
        ["flask secret", "older secret"],
        "cookie-session",
        payload,
        serializer.dumps(session),
    )

Path(__file__).with_suffix(".tsv").write_text("\n".join(rows) + "\n")
