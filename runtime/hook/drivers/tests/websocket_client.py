"""A client of WebSockets by websockets, of many at once: `websocket_client.py PORT`. Prints how many were answered."""

import asyncio
import sys

from websockets.asyncio.client import connect


async def talk(number):
    right = 0
    async with connect(f"ws://127.0.0.1:{sys.argv[1]}/", max_size=None) as socket:
        for message in [f"{number}", f"{number}".encode(), "", "x" * 100_000]:
            await socket.send(message)
            right += await socket.recv() == message
    return right


async def main():
    print(sum(await asyncio.gather(*map(talk, range(20)))))


asyncio.run(main())
