"""Decoding a correction: prompts in, text out."""
