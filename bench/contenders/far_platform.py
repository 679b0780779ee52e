"""The sandbox's advertising platform behind a way that delays: each request by 0 to 200 ms, evenly spread, before the
platform sees it, and each answer by as much again.

For each line that it reads it prints what the platform has seen: when each request arrived, by the clock that all
processes of this machine share and nobody sets; how many it refused with 429; what was submitted more than once.
"""

import asyncio
import json
import sys
from random import Random

import uvloop

from orderup.sandbox.server import Sandbox, serve_sandbox

LONGEST_DELAY = 0.2
CHUNK = 1 << 16


class Way:
    """From one connection of a caller to one of the platform's. Who talks alternates, and waits before its first
    word."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.talks: asyncio.StreamReader | None = None

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one end has gone."""
        try:
            while data := await reader.read(CHUNK):
                if self.talks is not reader:
                    self.talks = reader
                    await asyncio.sleep(self.random.uniform(0, LONGEST_DELAY))
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def serve(address: str, port: int, *, count: int, seconds: float) -> None:
    random = Random(1)
    async with serve_sandbox(names=[address]) as sandbox:
        sandbox.dsp.allow(count, seconds=seconds)
        behind = int(sandbox.base_url.rpartition(":")[2])

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", behind)
            way = Way(random)
            await asyncio.gather(way.carry(reader, their_writer), way.carry(their_reader, writer))

        async with await asyncio.start_server(connected, address, port, backlog=4096):
            while await asyncio.to_thread(sys.stdin.readline):
                print(json.dumps(told(sandbox)), flush=True)


def told(sandbox: Sandbox) -> dict[str, object]:
    dsp = sandbox.dsp
    return {"arrivals": list(dsp.meter.arrivals), "refused": dsp.meter.refused, "doubles": len(dsp.doubles)}


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), count=int(sys.argv[3]), seconds=float(sys.argv[4])))
