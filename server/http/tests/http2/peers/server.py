"""An ASGI application for hypercorn, whose HTTP/2 is that of Python's h2. Each request is answered as its path says."""

from urllib.parse import parse_qs

works = []


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    query = parse_qs(scope["query_string"].decode())

    async def start(status, *headers, **more):
        await send({"type": "http.response.start", "status": status, "headers": headers, **more})

    async def body(data, more=False):
        await send({"type": "http.response.body", "body": data, "more_body": more})

    async def whole(data):
        await start(200, (b"content-length", str(len(data)).encode()))
        await body(data)

    match scope["path"]:
        case "/":
            await whole(b"hello\n")
        case "/long":
            await whole(b"x" * 5_000_000)
        case "/echo":
            await start(200)
            more = True
            while more:
                piece = await receive()
                if piece["type"] != "http.request":
                    return
                more = piece["more_body"]
                if piece["body"]:
                    await body(piece["body"], True)
            await body(b"")
        case "/empty":
            await start(204)
            await body(b"")
        case "/same":
            # Without a length: the crate `h2` wants as many bytes where not the head's frame but an empty one behind it is the last.
            await start(304)
            await body(b"")
        case "/trailers":
            await start(200, trailers=True)
            await body(b"body")
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]})
        case "/hinted":
            for _ in range(int(query["count"][0])):
                await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
            await whole(b"hello\n")
        case "/early":
            await start(413)
            await body(b"early")
        case "/big":
            await start(200, (b"x-big", b"x" * int(query["size"][0])))
            await body(b"big")
        case "/work":
            text, more = b"", True
            while more:
                piece = await receive()
                if piece["type"] != "http.request":
                    return
                text, more = text + piece["body"], piece["more_body"]
            works.append(text)
            await whole(text)
        case "/works":
            await whole(b" ".join(works))
        case _:
            await start(404)
            await body(b"")
