"""I8: a follower that reconnects sees every event once, in order, as it stands in the log."""

from collections.abc import Iterator
from itertools import pairwise

from tests.invariants.evidence import AnyRow, Evidence, by
from tests.invariants.records import Finished, Follows, Received

SHOWN = ("n", "type", "shop", "status", "message")


def missed(evidence: Evidence) -> Iterator[str]:
    """Each violation of I8."""
    if evidence.database.pruned_seq:
        raise ValueError("Events were pruned: nobody can say what the followers should have seen.")
    received = by(evidence.of(Received), "follower")
    finished = {each.follower for each in evidence.of(Finished)}
    by_operation = {id: operation.events for id, operation in evidence.database.operations.items()}
    for follows in evidence.of(Follows):
        events = evidence.events if follows.operation_id is None else by_operation.get(follows.operation_id, [])
        got = [each.event for each in received.get(follows.follower, [])]
        yield from _compare(follows, events, got, is_finished=follows.follower in finished)


def _compare(
    follows: Follows, events: list[AnyRow], got: list[dict[str, object]], *, is_finished: bool
) -> Iterator[str]:
    numbers = [int(str(event["seq"])) for event in got]
    for earlier, later in pairwise(numbers):
        if later <= earlier:
            yield f"follower {follows.follower} got event {later} {'twice' if later == earlier else f'after {earlier}'}"
    until = max(numbers, default=follows.after)
    wanted = {
        event.seq: event
        for event in events
        if event.seq > follows.after
        and event.audience <= follows.audience
        and follows.shop in (None, event.shop)
        and (is_finished or event.seq <= until)
    }
    for seq in sorted(wanted.keys() - set(numbers)):
        yield f"follower {follows.follower} never got event {seq} ({wanted[seq].type})"
    for event in got:
        row = wanted.get(int(str(event["seq"])))
        if row is None:
            yield f"follower {follows.follower} got event {event['seq']}, which is not there for him"
        elif any(event[name] != getattr(row, name) for name in SHOWN):
            yield f"follower {follows.follower} got event {event['seq']} otherwise than it stands in the log"
