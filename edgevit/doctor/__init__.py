"""Doctor: what a machine lacks, or does, that would spoil the work or the figures, and the command that mends it.

`examine` looks at the host that edgevit runs on; `doctor` judges the facts that any board said of itself.
"""

from __future__ import annotations

from edgevit.device import Device
from edgevit.doctor.calm import check_facts_calm
from edgevit.doctor.finding import Finding, Severity
from edgevit.doctor.host import diagnose, examine
from edgevit.doctor.jetson import check_jetson
from edgevit.doctor.silicon import check_silicon
from edgevit.doctor.system import check_system
from edgevit.machine.facts import Facts

__all__ = ["Finding", "Severity", "diagnose", "doctor", "examine"]


def doctor(facts: Facts, profile: Device | None = None, runtime: str | None = None) -> tuple[Finding, ...]:
    """Findings on a board, in the order in which they would be mended: what would keep a bundle from running first.

    profile: the device it should be. runtime: of the bundle that it should run; without one, the first of the
    profile's that edgevit makes bundles for.
    """
    return (
        *check_system(facts, profile, runtime),
        *check_silicon(facts, profile),
        *check_jetson(facts, profile),
        *check_facts_calm(facts),
    )
