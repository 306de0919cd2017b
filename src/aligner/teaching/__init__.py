"""The parts of `train` that need an Aligner: what it is measured by, what it samples, and how it is published."""
