"""The floor: a socket that answers each request with the same bytes, whatever it says."""

from __future__ import annotations

import asyncio
import json
import sys

BODY = json.dumps({"predictions": [0.5]}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Trivial(asyncio.Protocol):
    """Counts bytes as far as it must to know that a request is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            end = data.index(b"\r\n\r\n") + 4
            at = data.lower().index(b"content-length: ") + 16
            self.missing = end + int(data[at : data.index(b"\r\n", at)])
        self.missing -= len(data)
        if not self.missing:
            self.transport.write(ANSWER)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[3])))
