"""Reads answers in each coding that httpx takes, from the server whose address it is told, and sends one in gzip."""

import gzip
import sys

import httpx

TEXT = "".join(f"line {number}\n" for number in range(20_000))

with httpx.Client(base_url=f"http://{sys.argv[1]}") as client:
    for path in ["text", "streamed"]:
        for coding in ["gzip", "br", "zstd", "identity"]:
            answer = client.get(f"/{path}", headers={"Accept-Encoding": coding})
            got = answer.headers.get("Content-Encoding", "identity")
            assert (answer.status_code, got) == (200, coding), (answer, got)
            assert answer.headers["Vary"].lower() == "accept-encoding", answer.headers
            print(path, coding, "whole" if answer.text == TEXT else "another text")
    sent = gzip.compress(TEXT.encode())
    answer = client.post("/echo", content=sent, headers={"Content-Encoding": "gzip"})
    print("echoes gzip" if answer.content == TEXT.encode() else answer)
