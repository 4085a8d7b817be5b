"""Export: a model prepared (trained, imported, composed), proven and published as a version."""
