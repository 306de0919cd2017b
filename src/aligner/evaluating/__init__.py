"""The parts of `evaluate`: what is kept of a run, what it proves, and the report."""
