"""Train a model by its recipe: settings, checkpoints and the training loop."""
