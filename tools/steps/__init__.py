"""Networks without training: pre- and post-processing around a classifier.

They consist of torch operations that TorchScript can express, so they run wherever the classifiers do.
"""
