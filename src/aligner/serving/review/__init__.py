"""Review: a queue of logged corrections, what people say of them, and how well they agree."""
