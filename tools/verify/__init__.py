"""What a server answers, compared with what the network answers: held-out rows, references, differences, verdicts."""
