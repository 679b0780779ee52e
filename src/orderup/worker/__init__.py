"""The client of a remote worker: claims tasks of a shop from its back, runs an async function for each, answers for it.

    from orderup.worker import Worker

    worker = Worker("pizza", server="http://localhost:8001", region="eu-west-3")

    @worker.task("bake_pizza")
    async def bake(task):
        return {"slices": 8}

    worker.run()

The server decides and this side obeys: a claim is a lease, renewed by heartbeats beside the function; when the server
says that it has ended, whatever the reason, the function is cancelled and its result dropped. Until then every answer
is owed: a result is sent again, word for word, until the server has said yes or no to it.
"""

from orderup.errors import TaskFailed, UpstreamFailed, UpstreamRefused
from orderup.model.wait import Wait
from orderup.worker.task import Task
from orderup.worker.worker import Worker

__all__ = ["Task", "TaskFailed", "UpstreamFailed", "UpstreamRefused", "Wait", "Worker"]
