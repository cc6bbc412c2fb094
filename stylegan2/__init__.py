"""The generator family.

Imported before torch, it lets idle OpenMP threads sleep instead of spin: where another process wants a core, threads
that spin cost most of the time (a render on two cores beside one busy process: 1.35 s, asleep 0.31 s; with nothing
beside it 0.17 s both ways).  OMP_WAIT_POLICY=active in the environment keeps them awake.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
