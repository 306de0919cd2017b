"""The parts of `bootstrap`: answers, corrections, the gate, lessons, guards, lineage and report."""
