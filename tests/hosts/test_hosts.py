"""Several hosts that work on one database, with links that are cut and hosts that die."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from orderup.db.tables import tasks
from orderup.sandbox import serve_sandbox
from tests.hosts import asking
from tests.hosts.site import Site
from tests.journeys.scene import until
from tests.services.rabbitmq import Broker
from tests.services.waiting import PATIENCE_SECONDS

ASKING = "tests.hosts.asking:shop"
QUESTIONS = 3 * asking.COUNT
# Ordered of a host that has its link back.
MORE = 3
# What a host prints that hears, once its link is mended, that others have its work.
TOO_LATE = ("a result came too late", "a claim has ended; what carried it out was cancelled")
pytestmark = pytest.mark.timeout(120)


async def test_hosts_share_the_work_of_one_queue(site: Site) -> None:
    front = site.front()
    await site.serve()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        count = await site.spread(group, front, seconds=0)
    site.assert_each_once(count)
    assert {attempt for host in (0, 1) for _, attempt in site.begun(host)} == {1}
    site.scene.assert_no_crash()


async def test_what_a_host_was_doing_when_its_link_was_cut_is_done_by_another_and_what_it_says_later_is_refused(
    site: Site,
) -> None:
    front = site.front()
    cut_off, other = await site.serve()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        count = await site.spread(group, front, seconds=3)
        site.hosts[0].links[0].cut()
        lost = site.begun(0)
    assert set(lost) <= {(task, attempt - 1) for task, attempt in site.begun(1)}, "the other host began each anew"
    assert not any(printed in cut_off.printed() for printed in TOO_LATE)
    site.hosts[0].links[0].mend()
    await until(lambda: any(said in cut_off.printed() for said in TOO_LATE), what="it hears of it")
    other.kill()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await site.order(front, MORE)
    site.assert_each_once(count + MORE)


async def test_what_a_host_was_doing_when_it_died_is_done_by_another(site: Site) -> None:
    front = site.front()
    dead, _ = await site.serve()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        count = await site.spread(group, front, seconds=3)
        dead.kill()
        lost = site.begun(0)
    assert set(lost) <= {(task, attempt - 1) for task, attempt in site.begun(1)}
    assert sum(row.losses for row in site.scene.table(tasks)) == len(lost)
    site.assert_each_once(count)


async def test_a_worker_that_the_broker_cannot_reach_finishes_what_it_has_begun_and_others_do_the_rest(
    site: Site, rabbitmq_program: Path
) -> None:
    broker = Broker(rabbitmq_program, also_at=site.networks[1].address)
    try:
        await asyncio.to_thread(broker.start)
        prefix = {"CELERY_PREFIX": f"test-{uuid4().hex[:12]}"}
        front = site.front(executor="celery", environment={"CELERY_BROKER_URL": broker.url, **prefix})
        called = broker.url.replace("127.0.0.1", site.networks[1].address)
        _, other = await site.work(environment={"CELERY_BROKER_URL": called, **prefix})
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            count = await site.spread(group, front, seconds=2)
            site.hosts[0].links[1].cut()
        assert {attempt for host in (0, 1) for _, attempt in site.begun(host)} == {1}
        site.hosts[0].links[1].mend()
        other.kill()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await site.order(front, MORE)
        site.assert_each_once(count + MORE)
    finally:
        for program in site.scene.programs:
            program.end()
        broker.remove()


async def test_a_third_party_never_sees_more_than_it_allows_from_both_hosts_together(site: Site) -> None:
    address = site.network.address
    async with serve_sandbox(host=address, names=[address]) as sandbox:
        sandbox.dsp.allow(asking.COUNT, seconds=asking.SECONDS)
        front = site.front(ASKING)
        await site.serve(shop=ASKING, environment={"ASKED_URL": f"{sandbox.base_url}/dsp/tasks"})
        count = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            # whoever claims first may have all that is allowed, several times in a row
            while not all(site.begun(host) for host in (0, 1)):
                crowd = site.scene.crowd(front, path=asking.PATH, body={}, cancelled=0, name=f"crowd {count}")
                await crowd.order_without_staff(QUESTIONS)
                assert list(crowd.ended.values()) == ["operation.completed"] * QUESTIONS
                count += QUESTIONS
        meter = sandbox.dsp.meter
        assert (len(meter.arrivals), meter.refused) == (count, 0)
        assert meter.most_seen == asking.COUNT
    site.check()
