"""The parts of `correct`: who writes, what guards the answer, and how a change is shown."""
