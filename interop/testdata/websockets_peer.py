"""Python's websockets as a peer:

  python3 websockets_peer.py serve OPTIONS       an echo server; prints "port N"
  python3 websockets_peer.py talk URL OPTIONS    talks to an echo server of ours; prints "ok"

OPTIONS are the arguments of its permessage-deflate extension, as JSON, or false. The words are
those of ws_peer.cjs.
"""
import asyncio
import json
import os
import ssl
import sys

import websockets
from websockets.extensions import permessage_deflate as deflate


def server_extensions(options):
    return [deflate.ServerPerMessageDeflateFactory(**options)] if options is not False else None


def client_extensions(options):
    return [deflate.ClientPerMessageDeflateFactory(**options)] if options is not False else None


async def answer(ws):
    async for message in ws:
        if message == "close 3001":
            await ws.close(3001, "as asked")
        elif message == "ping":
            await (await ws.ping(b"from websockets"))
            await ws.send("ponged from websockets")
        elif message == "fragments":
            await ws.send(["in ", "three ", "fragments"])
        else:
            await ws.send(message)


async def serve(options):
    async with websockets.serve(
        answer, "127.0.0.1", 0, subprotocols=["chat"], compression=None, max_size=32 << 20,
        extensions=server_extensions(options),
    ) as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


async def talk(url, options):
    settings = dict(
        subprotocols=["chat"], compression=None, max_size=32 << 20,
        extensions=client_extensions(options),
    )
    if url.startswith("wss:"):
        settings["ssl"] = ssl.create_default_context(cafile=os.environ["NODE_EXTRA_CA_CERTS"])
    async with websockets.connect(url, **settings) as ws:
        assert ws.subprotocol == "chat", ws.subprotocol
        assert bool(ws.extensions) == (options is not False), ws.extensions
        for text in ["", "hello", "grüße 你好 👋", "long " * 100_000, "again " * 100]:
            await ws.send(text)
            assert await ws.recv() == text
        for size in [0, 1, 125, 126, 65535, 65536, 1 << 20]:
            data = bytes(((i * i) >> 3) & 255 for i in range(size))
            await ws.send(data)
            assert await ws.recv() == data, size
        await ws.send(["one ", "message ", "in ", "fragments"])
        assert await ws.recv() == "one message in fragments"
        await (await ws.ping(b"from websockets"))
        for word, reply in [("ping", "ponged from Whorl"), ("fragments", "in three fragments")]:
            await ws.send(word)
            assert await ws.recv() == reply
        await ws.send("close 3001")
        try:
            await ws.recv()
        except websockets.ConnectionClosed as end:
            assert (end.rcvd.code, end.rcvd.reason) == (3001, "as asked"), end
        else:
            assert False, "it doesn't end"
    async with websockets.connect(url, **settings) as ws:
        await ws.close(1000, "bye")
        assert (ws.close_code, ws.close_reason) == (1000, "bye"), (ws.close_code, ws.close_reason)
    print("ok")


options = json.loads(sys.argv[-1])
asyncio.run(serve(options) if sys.argv[1] == "serve" else talk(sys.argv[2], options))
