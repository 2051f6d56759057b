"""What an experiment is: its stages, fields and hyperparameters, as typed documents."""
