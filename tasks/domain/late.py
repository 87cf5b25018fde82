"""What a source says of a delivery that does not come."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from tasks.domain.frozen import Frozen, parsed
from tasks.domain.partition import Offset


class LateSpec(Frozen):
    """What becomes of the partitions that wait for a delivery."""

    policy: Literal["wait", "skip", "degrade"] = "wait"
    """`wait` for it; `skip` leaves out the partitions that were the first to wait for it; `degrade` scores without it."""
    until: Annotated[Offset, parsed(Offset)] | None = None
    """The moment after which a delivery is given up; with skip and degrade."""

    @model_validator(mode="after")
    def _consistent(self) -> LateSpec:
        if (self.policy == "wait") != (self.until is None):
            raise ValueError(
                "until: expected with skip and degrade alone, such as {policy: degrade, until: end+6h}"
                if self.policy == "wait"
                else f"until: expected the moment after which a delivery is given up, such as end+6h, since policy is {self.policy}"
            )
        return self
