"""The parts of `build`: the store, calls and what they cost, the stages, annotation, filters, and what comes out."""
