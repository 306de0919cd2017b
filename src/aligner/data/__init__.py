"""Rows as data for training: their fields, the formats that people have, and what is made of them."""
