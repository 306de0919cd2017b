"""The parts of `ablate`: what a run of it found, and the table and the plot that come of many."""
