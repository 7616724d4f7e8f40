"""For all tests: one thread per operation, so that results do not depend on the machine's cores.

And no network: what is not there is then said at once, instead of after several tries.
"""

import os

# Read when torch and huggingface_hub are imported, and by child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
