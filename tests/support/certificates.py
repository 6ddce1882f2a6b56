"""Certificates that are trusted by nobody but the test that made them."""

import ssl
import subprocess
from pathlib import Path

from support.http import Connection


def certificate(folder: Path, name: str, *hosts: str) -> tuple[Path, Path]:
    """A self-signed one, for these hosts, with NAME as its common name."""
    chain, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=" + ",".join(f"DNS:{h}" for h in hosts)]
    subprocess.run([*command, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    return chain, key


def trusting(*chains: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata="".join(c.read_text() for c in chains))
    context.set_alpn_protocols(["http/1.1"])
    return context


def common_name(connection: Connection) -> str:
    assert isinstance(connection.socket, ssl.SSLSocket)
    subject = dict(pair for pairs in connection.socket.getpeercert()["subject"] for pair in pairs)  # type: ignore[index,union-attr]
    return subject["commonName"]
