"""A TCP proxy that holds back everything for a while: a server far away, on one machine.

python -m benchmarks.delay_proxy LISTEN_PORT TARGET_PORT ROUND_TRIP_MS
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_BUFFER_BYTES = 1 << 18


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass on what comes, each piece `delay_s` after it came, without waiting for one before the next."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

    async def send() -> None:
        while (item := await queue.get())[1]:
            await asyncio.sleep(max(0.0, item[0] - loop.time()))
            writer.write(item[1])
            await writer.drain()
        writer.close()

    sender = asyncio.create_task(send())
    with contextlib.suppress(OSError):
        while data := await reader.read(_BUFFER_BYTES):
            await queue.put((loop.time() + delay_s, data))
    await queue.put((0.0, b""))
    with contextlib.suppress(OSError):
        await sender


async def serve(listen_port: int, target_port: int, round_trip_s: float) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(round_trip_s)  # what the handshake would take
        there, back = await asyncio.open_connection("127.0.0.1", target_port)
        await asyncio.gather(_pump(reader, back, round_trip_s / 2), _pump(there, writer, round_trip_s / 2))

    server = await asyncio.start_server(handle, "127.0.0.1", listen_port, limit=_BUFFER_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
