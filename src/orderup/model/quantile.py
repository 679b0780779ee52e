"""How most of some values are: the median and its like."""

import math
from collections.abc import Sequence

MEDIAN, NINETY_PERCENT, NINETY_FIVE_PERCENT = 0.5, 0.9, 0.95


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest that so large a share of them does not exceed. ordered: one or more, the smallest first."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
