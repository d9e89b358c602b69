"""Python's h2, by httpx: client.py URL. Ends with "all is well"."""

import asyncio
import sys

import httpx


async def main(url):
    async with httpx.AsyncClient(http2=True, verify=False, timeout=60) as client:
        answers = await asyncio.gather(*(client.get(url + "/") for _ in range(200)))
        for answer in answers:
            assert (answer.http_version, answer.text) == ("HTTP/2", "HTTP/2.0\n"), answer
        assert len((await client.get(url + "/long")).content) == 5_000_000
        body = bytes(3_000_000)
        assert (await client.post(url + "/echo", content=body)).content == body


asyncio.run(main(sys.argv[1]))
print("all is well")
