"""What the library costs, measured: training runs and step times on every device, against
the same steps written by hand. `python -m bench` runs it all; bench/__main__.py says how."""

import os

# OpenBLAS's threads go on spinning after a product, for some 20 ms, and take the processor from
# those that come next; after 2**20 cycles (0.3 ms) they sleep, and small products that follow each
# other find them awake. For every contender alike. Read when NumPy loads, so set before it does.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")
