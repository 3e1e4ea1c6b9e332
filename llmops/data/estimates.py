"""Numbers with their 95 % intervals, as the findings show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmops.core.findings import Estimate

Z95 = 1.959963984540054


def share_of(marks: Sequence[bool] | np.ndarray) -> Estimate:
    """A share with Wilson's score interval (Journal of the American Statistical Association 22:209, 1927)."""
    n = len(marks)
    if n == 0:
        return NOTHING
    share, shrink = float(np.mean(np.asarray(marks, dtype=float))), 1 + Z95**2 / n
    middle = (share + Z95**2 / (2 * n)) / shrink
    reach = Z95 / shrink * (share * (1 - share) / n + Z95**2 / (4 * n**2)) ** 0.5
    return estimate(share, max(0.0, middle - reach), min(1.0, middle + reach), n)


def mean_of(values: Sequence[float] | np.ndarray) -> Estimate:
    """A mean with Student's interval."""
    from scipy.stats import t

    array_N = np.asarray(values, dtype=float)
    n = len(array_N)
    if n == 0:
        return NOTHING
    middle = float(array_N.mean())
    reach = float(t.ppf(0.975, n - 1) * array_N.std(ddof=1) / n**0.5) if n > 1 else float("inf")
    reach = reach if np.isfinite(reach) else abs(middle)
    return estimate(middle, middle - reach, middle + reach, n)


def difference_of(here: Estimate, there: Estimate) -> Estimate:
    """One share less another, of different rows (Newcombe, Statistics in Medicine 17:873, 1998, method 10)."""
    if not here.n or not there.n:
        return NOTHING
    gap = here.value - there.value
    low = gap - ((here.value - here.low) ** 2 + (there.high - there.value) ** 2) ** 0.5
    high = gap + ((here.high - here.value) ** 2 + (there.value - there.low) ** 2) ** 0.5
    return estimate(gap, low, high, here.n)


def estimate(value: float, low: float, high: float, n: int) -> Estimate:
    """Rounded to what anybody reads, so that a last bit does not tell two machines apart."""
    return Estimate(value=round(value, 5), low=round(low, 5), high=round(high, 5), n=n)


NOTHING = Estimate(value=0.0, low=0.0, high=0.0, n=0)


def lengths(texts: Sequence[str]) -> Any:
    """Words of each text, N."""
    return np.array([len(text.split()) for text in texts], dtype=float)
