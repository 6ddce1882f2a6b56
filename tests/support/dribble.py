"""`python -m support.dribble HOST PORT COUNT`: clients that send heads and bodies byte by byte."""

import asyncio
import sys

PAUSE_SECONDS = 0.5
HEAD = b"GET /slow HTTP/1.1\r\nHost: test.example\r\nX-Padding: " + b"x" * 1000
BODY_HEAD = b"POST /slow HTTP/1.1\r\nHost: test.example\r\nContent-Length: 1000\r\n\r\n"


async def dribble(host: str, port: int, number: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
            if number % 2:
                writer.write(BODY_HEAD)
                rest = b"x" * 1000
            else:
                rest = HEAD
            for i in range(len(rest)):
                writer.write(rest[i : i + 1])
                await writer.drain()
                await asyncio.sleep(PAUSE_SECONDS)
        except OSError:
            await asyncio.sleep(PAUSE_SECONDS)


async def main(host: str, port: int, count: int) -> None:
    await asyncio.gather(*(dribble(host, port, n) for n in range(count)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
