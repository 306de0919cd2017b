"""The parts of `serve`: the wire, streams, limits, the engine's client, the log and the metrics."""
