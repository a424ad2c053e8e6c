"""Floods a service over the loopback until its standard input ends; run as a program of its own.

    python flood.py PORT (tokens|silence|megabytes|blind) NUMBER ADDRESS…

``NUMBER`` sockets at a time, from the source addresses in turn. ``tokens``: each sends one bad token, and is opened
anew as soon as it has its refusal. ``megabytes``: the same with a frame of 1 MB in place of a token. ``silence``: each
says nothing, until it is closed. The number of attempts so far is printed once all have begun, and at the end.
``blind``: so many sockets are opened each second; each sends everything up to its bad token at once, and is closed
without waiting for anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
import time
from itertools import cycle

from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import encode
from raw_websocket import client_frame, upgrade_request


class Flood:
    def __init__(self, port: int, message: bytes | None) -> None:
        self._port = port
        self._upgrade = upgrade_request(port)
        self._message = message
        self.attempts = 0

    async def socket(self, address: str) -> None:
        while True:
            self.attempts += 1
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))
            except OSError:
                await asyncio.sleep(0.01)
                continue
            try:
                writer.write(self._upgrade)
                head = await reader.readuntil(b"\r\n\r\n")
                if self._message is None:
                    await reader.read()
                    return
                if b" 101 " in head.split(b"\r\n", 1)[0]:
                    writer.write(self._message)
                    await reader.read(65_536)  # the refusal, and over again
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()


def blind(port: int, per_second: int, addresses: list[str]) -> None:
    everything = upgrade_request(port) + client_frame(bad_authentication())
    started, told = time.monotonic(), False
    for attempts, address in enumerate(cycle(addresses)):
        while attempts > per_second * (time.monotonic() - started):
            if not told and attempts >= per_second:
                print(attempts, flush=True)
                told = True
            if select.select([sys.stdin], [], [], 0.001)[0]:
                print(attempts, flush=True)
                return
        with socket.socket() as caller:
            caller.setblocking(False)
            caller.bind((address, 0))
            with contextlib.suppress(OSError):  # in progress, or too fast for the backlog
                caller.connect(("127.0.0.1", port))
            with contextlib.suppress(OSError):
                caller.send(everything)


async def answered(port: str, kind: str, number: str, addresses: list[str]) -> None:
    message = {"tokens": client_frame(bad_authentication()), "silence": None, "megabytes": client_frame(bytes(1 << 20))}
    flood = Flood(int(port), message[kind])
    tasks = [asyncio.create_task(flood.socket(address)) for _, address in zip(range(int(number)), cycle(addresses))]
    await asyncio.sleep(1.0)
    print(flood.attempts, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(flood.attempts, flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def bad_authentication() -> bytes:
    """A call with a token that is well-formed to the last: only its signature is not good."""
    header, payload = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9", "eyJzdWIiOiJtYWxsb3J5IiwiaWF0IjoxLCJleHAiOjk5OTk5OTk5OTl9"
    call = pb.SatAuthReq(id="device", token=f"{header}.{payload}.{'B' * 85}A")
    request = pb.SatRpcRequest(method=rpc.AUTHENTICATE, request_id=1, message=call.SerializeToString())
    return bytes(encode(request))


if __name__ == "__main__":
    flooded, kind_of_flood, size, *from_addresses = sys.argv[1:]
    if kind_of_flood == "blind":
        blind(int(flooded), int(size), from_addresses)
    else:
        asyncio.run(answered(flooded, kind_of_flood, size, from_addresses))
