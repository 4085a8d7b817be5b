"""What a server answers, compared with what the network says: held-out rows, references, differences, verdicts."""
