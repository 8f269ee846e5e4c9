"""Memory of a training process: freed blocks stay with it, so that a step faults in no page that the last one had."""
import os
import subprocess
import sys

import pytest

from phases.common.files import ROOT

FAULTS = """
import resource, sys
import numpy as np
from phases.common import memory
if sys.argv[1] == "kept":
    memory.keep_freed_memory()

def step():
    blocks = [np.ones(1 << 20) for _ in range(12)]  # 8 MB each, freed together: more than glibc keeps by itself

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Pages that five steps fault in, after one to warm up, in a process of its own."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True,
                          env={**env, "PYTHONPATH": str(ROOT)})
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_process_that_keeps_its_memory_faults_in_no_page_twice():
    pages = 5 * 12 * 8 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert page_faults("kept") < pages / 50 < pages / 4 < page_faults("as it is")
