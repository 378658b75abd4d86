"""One experiment from its config to its tables: training, evaluation, logging, checkpoints."""
