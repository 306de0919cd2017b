"""The parts of a judge: how it is asked and read, figures over many verdicts, and a small classifier of its own."""
