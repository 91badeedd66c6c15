"""Layer `pipeline`: the order of the stages, and nothing else."""
