"""Other ways to better answers with the same upstream, each a model around a model, to hold an Aligner against."""
