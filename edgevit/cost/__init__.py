"""What one inference costs on a core that is not here, as an estimate of instructions; never of time."""

from edgevit.cost.cores import CoreCosts, costs_for
from edgevit.cost.estimate import cost_of, estimate

__all__ = ["CoreCosts", "cost_of", "costs_for", "estimate"]
