"""Training a model by its recipe: settings, initial weights, checkpoints and the training loop."""
