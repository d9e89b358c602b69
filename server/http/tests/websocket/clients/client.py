"""The client of Python's websockets: prints what it finds at the server whose address it is told."""

import asyncio
import sys

import websockets

ADDRESS = sys.argv[1]


async def main():
    async with websockets.connect(f"ws://{ADDRESS}/echo", max_size=None, subprotocols=["v1", "v2"]) as socket:
        messages = ["hello", "", "\u00e4\U0001f600", b"\x00\xff", b"", "x" * 70_000, b"y" * 1_000_000]
        for message in messages:
            await socket.send(message)
            assert await socket.recv() == message
        print("echoes", len(messages))
        await socket.send(["in ", "three ", "parts"])
        assert await socket.recv() == "in three parts"
        print("fragments whole")
        await asyncio.wait_for(await socket.ping(b"there?"), 20)
        print("pong in time")
        print("protocol", socket.subprotocol)
    async with websockets.connect(f"ws://{ADDRESS}/end") as socket:
        await socket.send("4321")
        try:
            await asyncio.wait_for(socket.recv(), 20)
        except websockets.ConnectionClosed as closed:
            print("closed", closed.rcvd.code, closed.rcvd.reason)


asyncio.run(main())
