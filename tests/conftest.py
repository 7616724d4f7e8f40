"""For all tests: one thread per operation, so that results do not depend on the machine's cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, and by child processes
