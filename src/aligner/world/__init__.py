"""The closed world: its questions and facts, its upstreams, and an oracle that marks any answer."""
