"""A Celery worker's side of the broker, without what messages such as ours have no use for.

Workers neither tell each other what they do (with a thousand of them that would be most of the traffic) nor wait at
their start for what others have revoked, and nothing is sent to be delivered later: for that Celery would make 28 more
queues on RabbitMQ.
"""

from typing import Any

from celery.worker.consumer import consumer

Steps: Any = consumer.Consumer.Blueprint


class Consumer(consumer.Consumer):
    class Blueprint(Steps):  # type: ignore[misc]  # Celery's types have it as a value
        default_steps = tuple(step for step in Steps.default_steps if not step.endswith(":DelayedDelivery"))

    def __init__(self, *args: Any, **options: Any) -> None:
        without = {"without_mingle": True, "without_gossip": True}
        options["worker_options"] = {**(options.get("worker_options") or {}), **without}
        super().__init__(*args, **options)
