"""Making a trained network smaller or faster: quantization, pruning, distillation; what recipes of variants call."""
