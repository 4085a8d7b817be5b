"""How sure a difference in accuracy between two models on the same images is."""

import numpy as np
import numpy.typing as npt

Right = npt.NDArray[np.bool_]  # [images]: whether the answer was right


def paired_p_value(right: Right, other: Right) -> float:
    """How likely so large a difference is by chance if both models are equally good: McNemar's exact test.

    Only images that one model gets right and the other wrong count, so it sees differences that two separate
    intervals would hide.
    """
    from scipy.stats import binomtest

    won, lost = int((right & ~other).sum()), int((~right & other).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
