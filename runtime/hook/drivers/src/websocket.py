"""A server of WebSockets by websockets: `websocket.py PORT SECONDS`. Says each again; one with "slow" after that."""

import asyncio
import sys

from websockets.asyncio.server import serve

PORT, SECONDS = int(sys.argv[1]), float(sys.argv[2])


async def again(socket):
    async for message in socket:
        if "slow" in message:
            await asyncio.sleep(SECONDS)
        await socket.send(message)


async def main():
    async with serve(again, "127.0.0.1", PORT) as server:
        await server.serve_forever()


asyncio.run(main())
