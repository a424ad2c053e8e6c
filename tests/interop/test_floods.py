"""What strangers can do to others by sheer number: nothing that a good client would notice much.

A flood comes from a process of its own, from addresses of its own (127.0.0.2 and on); the good client from 127.0.0.1.
Times are compared within one run only, as medians.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import psutil
import pytest
from websockets.asyncio.client import connect

from interop.conftest import ServiceFactory
from interop.service import Leyden
from interop.test_authentication import Issuer
from leyden.satellite import rpc
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.frames import decode, encode

pytestmark = pytest.mark.alone

FLOOD = Path(__file__).parent / "flood.py"
FEW = [f"127.0.0.{last}" for last in range(2, 10)]
MANY = [f"127.0.{third}.{last}" for third in range(1, 4) for last in range(2, 250)]

#: A good client may wait this many times as long as when it is quiet.
PATIENCE = 3.0

#: Bytes. What a flood may add to the memory of the service: 5,000 sockets that arrive at once are all there for a
#: moment, with some 35 KiB each, before four fifths of them are closed.
GROWTH = 256 << 20


@asynccontextmanager
async def flood(service: Leyden, kind: str, sockets: int, addresses: list[str]) -> AsyncIterator[None]:
    port = service.url.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, FLOOD, port, kind, str(sockets), *addresses),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert int(await asyncio.wait_for(process.stdout.readline(), 60)) >= sockets
        yield
    finally:
        out, _ = await process.communicate(b"")  # the end of its input ends it
    print(f"{kind}: {int(out):,} attempts")


async def seconds_to_authenticate(service: Leyden, issuer: Issuer, times: int) -> float:
    """The median time from opening a connection to being let in."""
    taken = []
    for number in range(times):
        call = pb.SatAuthReq(id=f"good-{number}", token=issuer.token("alice"))
        request = pb.SatRpcRequest(method=rpc.AUTHENTICATE, request_id=1, message=call.SerializeToString())
        started = time.perf_counter()
        async with connect(
            f"{service.url.replace('http', 'ws')}/ws",
            subprotocols=["electric.0.12"],  # type: ignore[list-item]
            compression=None,
            ping_interval=None,
        ) as websocket:
            await websocket.send(encode(request))
            answer = decode(await asyncio.wait_for(websocket.recv(), 10))  # type: ignore[arg-type]
            taken.append(time.perf_counter() - started)
        assert isinstance(answer, pb.SatRpcResponse)
        assert answer.WhichOneof("result") == "message"
        await asyncio.sleep(0.02)
    return median(taken)


@pytest.mark.parametrize(
    ("kind", "sockets", "addresses", "burst"),
    [
        ("tokens", 8, FEW, 0.0),
        ("silence", 5_000, MANY, 0.0),
        ("megabytes", 8, FEW, 0.0),
        # until each of hundreds of addresses has failed ten times, everybody waits a little
        ("tokens", 600, MANY, 4.0),
        ("blind", 10_000, FEW, 1.0),
    ],
    ids=[
        "bad tokens from few addresses",
        "silent sockets",
        "megabytes",
        "bad tokens from many addresses",
        "10,000 bad tokens a second",
    ],
)
async def test_a_good_client_hardly_notices(
    kind: str, sockets: int, addresses: list[str], burst: float, leyden: ServiceFactory
) -> None:
    issuer = Issuer("ES256")
    service = await leyden(**issuer.env, LOG_LEVEL="error")
    await seconds_to_authenticate(service, issuer, 10)
    quiet = await seconds_to_authenticate(service, issuer, 40)
    memory = psutil.Process(service.process.pid).memory_info().rss
    async with flood(service, kind, sockets, addresses):
        await asyncio.sleep(burst)
        loud = await seconds_to_authenticate(service, issuer, 40)
        grown = psutil.Process(service.process.pid).memory_info().rss - memory
    print(f"{kind}: {loud / quiet:.2f} times the quiet {quiet * 1000:.1f} ms; {grown / (1 << 20):.0f} MiB more")
    assert loud <= PATIENCE * quiet
    assert grown < GROWTH
