"""How a third party answers: its switches, as they are set by HTTP, by the page and by tests."""

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# An hour: longer than anybody waits for an answer.
LONGEST_DELAY = 3600


class Body(StrEnum):
    """What becomes of the answer's body. `docs/guides/sandbox.md` says what a caller sees of each."""

    HONEST = "honest"
    GARBAGE = "garbage"
    EMPTY = "empty"
    DRIP = "drip"
    HANG = "hang"
    RESET = "reset"
    HUGE = "huge"
    HTML = "html"
    OBJECT = "object"


def _has_a_body(status: int) -> int:
    if status in {HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED}:
        raise ValueError("answers of this status have no body; take another one, and the body 'empty'")
    return status


class Answer(BaseModel):
    """One way to answer. Delays are of life: the sandbox divides them by its scale."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    delay_seconds: float = Field(default=0.0, ge=0, le=LONGEST_DELAY)
    status: Annotated[int, Field(ge=200, le=599), AfterValidator(_has_a_body)] = 200
    body: Body = Body.HONEST
    retry_after_seconds: int | None = Field(default=None, ge=0, le=86_400)


class Behaviour(Answer):
    """How requests are answered: all of them as this says, or, with an `alternate`, every second one as that says."""

    alternate: Answer | None = None

    def answer_to(self, nth: int) -> Answer:
        """To the request number `nth` since this was switched on, counted from 1."""
        return self.alternate if self.alternate is not None and nth % 2 == 0 else self
