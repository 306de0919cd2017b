"""The parts of training: encoding and masks, new models, checkpoints, and the adapter to TRL."""
