"""One worker of a search in a process of its own: python search_process.py URL TRIALS SEED PAUSE_SECONDS.

Prints each policy that it builds, as one line of JSON, when it begins to.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from arithmetic_bench import ArithmeticBench, constant_schedule

from edgevit.policy import Policy
from edgevit.progress import Silence
from edgevit.recipe import Budget
from edgevit.search.space import SearchSpace
from edgevit.search.study import opened_study
from edgevit.search.trials import canonical
from edgevit.search.worker import Limits, Search, run_search

SMALL_SPACE = SearchSpace(
    image_sizes=(224, 192),
    linear=("fp32", "int8-dynamic", "int8-static"),
    conv=("fp32", "int8-static"),
    attention=("fp32", "int8-static"),
)
IDENTITY = {"model": "arithmetic"}
NAME = "search"
HEARTBEAT_S, GRACE_S = 1, 2


class SlowBench(ArithmeticBench):
    def __init__(self, pause_s: float) -> None:
        super().__init__(pictures=200)
        self.pause_s = pause_s

    def build(self, policy: Policy) -> str:
        print(canonical(policy), flush=True)
        time.sleep(self.pause_s)
        return super().build(policy)


def search_with(bench: ArithmeticBench, trials: int, seed: int) -> Search:
    budget, limits = Budget(max_drop=1.0), Limits(trials)
    return Search({"": bench}, {"": SMALL_SPACE}, constant_schedule, budget, limits, Silence(), seed=seed)


if __name__ == "__main__":
    url, trials, seed, pause_s = sys.argv[1:]
    with opened_study(url, NAME, IDENTITY, HEARTBEAT_S, GRACE_S) as study:
        run_search(study, search_with(SlowBench(float(pause_s)), int(trials), int(seed)))
