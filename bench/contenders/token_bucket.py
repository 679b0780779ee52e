"""What is usually done: a token bucket in each process, here kombu's, which Celery's `rate_limit` is made of.

Posts campaigns to a platform without end, as many at once as the bucket lets through.
"""

import asyncio
import sys

import aiohttp
import uvloop
from kombu.utils.limits import TokenBucket


async def post(session: aiohttp.ClientSession, url: str) -> None:
    async with session.post(f"{url}/campaigns", json={"campaign_name": "spring"}) as answer:
        await answer.read()


async def post_for_ever(url: str, *, count: int, seconds: float) -> None:
    bucket = TokenBucket(count / seconds, capacity=1)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        while True:
            if bucket.can_consume():
                group.create_task(post(session, url))
            else:
                await asyncio.sleep(bucket.expected_time())


if __name__ == "__main__":
    uvloop.run(post_for_ever(sys.argv[1], count=int(sys.argv[2]), seconds=float(sys.argv[3])))
