"""What the tests send."""

import numpy as np

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
