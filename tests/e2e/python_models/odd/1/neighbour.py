import numpy as np

VALUE = np.array([4.5], np.float32)
