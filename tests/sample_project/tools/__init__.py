"""A package of this project, called as one of somebody else."""
