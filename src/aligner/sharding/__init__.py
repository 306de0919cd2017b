"""Work in parts: each is done exactly once, by whichever process of whichever machine."""
