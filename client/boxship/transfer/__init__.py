"""Moving images and containers' file systems from one daemon to another, through this process and nothing else."""
