"""Numbers about answers and corrections; no model, no network."""
