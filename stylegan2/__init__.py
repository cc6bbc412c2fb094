"""The generator family.

Imported before torch, it lets idle OpenMP threads sleep after a thousand turns of waiting, where GCC's library would
let them spin for milliseconds: threads that spin cost most of the time where another process wants a core, and threads
that sleep at once cost it where many small steps follow each other.  A render on two cores, and motion between two
small pictures:

    threads                        spin (default)     sleep at once     sleep after 1000 turns
    nothing beside them            171 ms,   14 ms    183 ms, 34 ms     174 ms, 16 ms
    one busy process beside them   1398 ms, 2520 ms   325 ms, 24 ms     345 ms, 45 ms

They still sleep at once where a second thread of a program draws, since there are more of them than cores then, and
with other OpenMP libraries.  OMP_WAIT_POLICY in the environment, `active` or `passive`, decides otherwise.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
