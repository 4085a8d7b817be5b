"""The same TorchScript file behind other serving frameworks, each as its documentation would have it."""
