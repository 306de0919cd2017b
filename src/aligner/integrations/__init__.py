"""Parts of an Aligner that run inside other people's engines."""
