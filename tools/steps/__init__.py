"""Networks that learn nothing: what happens to a picture before a classifier sees it, and to its answer afterwards.

Pure torch operations that TorchScript can express, so that they run wherever the classifiers do.
"""
