"""orderup: every order reaches its end.

What a shop is written with. Its routes take `orderup.web` besides, remote workers `orderup.worker`.
"""

from orderup.errors import (
    Conflict,
    Invalid,
    InvalidPlan,
    Misconfigured,
    NotFound,
    OrderupError,
    OutcomeUnknown,
    Resting,
    TaskFailed,
    UpstreamFailed,
    UpstreamRefused,
)
from orderup.model.kind import Kind, Rate
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.retry import NEVER, Retry
from orderup.model.wait import Wait
from orderup.shop import Context, Shop

__all__ = [
    "NEVER",
    "Approval",
    "Conflict",
    "Context",
    "Invalid",
    "InvalidPlan",
    "Kind",
    "Misconfigured",
    "NotFound",
    "OrderupError",
    "OutcomeUnknown",
    "Plan",
    "PlannedTask",
    "Rate",
    "Resting",
    "Retry",
    "Shop",
    "TaskFailed",
    "UpstreamFailed",
    "UpstreamRefused",
    "Wait",
]
