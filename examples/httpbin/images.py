"""One flat picture in four formats, written byte by byte: no image file and no image library."""

from __future__ import annotations

import struct
import zlib

SIDE = 64
GREEN = (46, 125, 91)


def png() -> bytes:
    """RGB, 8 bits a channel (PNG specification, 3rd edition, chapter 11)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes(GREEN) * SIDE
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(row * SIDE))
        + chunk(b"IEND", b"")
    )


def jpeg() -> bytes:
    """Baseline, grey: one code in each Huffman table, as each block is like the one before (ITU-T T.81)."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    one_code = bytes([1] + [0] * 15) + b"\0"
    blocks = (SIDE // 8) ** 2
    return (
        b"\xff\xd8"
        + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
        + segment(0xDB, b"\0" + b"\1" * 64)
        + segment(0xC0, struct.pack(">BHHBBBB", 8, SIDE, SIDE, 1, 1, 0x11, 0))
        + segment(0xC4, b"\x00" + one_code)
        + segment(0xC4, b"\x10" + one_code)
        + segment(0xDA, b"\1\1\0\0\x3f\0")
        + b"\0" * (blocks * 2 // 8)
        + b"\xff\xd9"
    )


def webp() -> bytes:
    """Lossless: each of the five prefix codes has one symbol, so that a pixel takes no bit (RFC 9649, 3)."""
    bits: list[int] = []

    def put(value: int, count: int) -> None:
        bits.extend(value >> i & 1 for i in range(count))

    put(0x2F, 8)
    put(SIDE - 1, 14)
    put(SIDE - 1, 14)
    put(0, 1 + 3 + 1 + 1 + 1)  # no alpha, version 0, no transform, no colour cache, one set of codes
    red, green, blue = GREEN
    for symbol in green, red, blue, 255, 0:
        put(0b101, 3)  # a simple code, one symbol, of eight bits
        put(symbol, 8)
    bits.extend([0] * (-len(bits) % 8))
    data = bytes(sum(bit << i for i, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def svg() -> bytes:
    """A square, in words."""
    red, green, blue = GREEN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{SIDE}">'
        f'<rect width="100%" height="100%" fill="rgb({red},{green},{blue})"/></svg>\n'
    ).encode()
