"""What a check says."""

import enum
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

MOST_EVIDENCE: Final = 20
"""Operations that are named; the rest is counted."""


VerdictName: TypeAlias = Literal["pass", "fail", "negative-control-failed", "inconclusive"]


class Verdict(enum.Enum):
    """Of a check, an arm, a scenario or a run; of several the worst counts, in this order."""

    PASS = "pass"  # noqa: S105  # no password
    INCONCLUSIVE = "inconclusive"
    NEGATIVE_CONTROL_FAILED = "negative-control-failed"
    FAIL = "fail"

    @property
    def word(self) -> VerdictName:
        """Its value, for reports."""
        return self.value

    @property
    def rank(self) -> int:
        """The higher, the worse."""
        return list(Verdict).index(self)


def worst(*verdicts: Verdict) -> Verdict:
    """The worst of several; PASS of none."""
    return max(verdicts, key=lambda verdict: verdict.rank, default=Verdict.PASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One check of one arm.

    Attributes:
        check: Its name, as in the scenario file.
        verdict: What came out.
        measured: For people.
        bar: What was asked, for people.
        evidence: Operations that offend, at most `MOST_EVIDENCE`.
        offending: How many there are.
    """

    check: str
    verdict: Verdict
    measured: str
    bar: str
    evidence: tuple[int, ...] = ()
    offending: int = 0


def judge(
    check: str, good: object, *, measured: str, bar: str, offending: tuple[int, ...] = ()
) -> Judgement:
    """A judgement that passes if `good` is true."""
    return Judgement(
        check=check,
        verdict=Verdict.PASS if good else Verdict.FAIL,
        measured=measured,
        bar=bar,
        evidence=() if good else offending[:MOST_EVIDENCE],
        offending=0 if good else len(offending),
    )
