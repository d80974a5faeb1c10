"""A collection to search from a browser or a program: ways of searching it, its texts, and HTTP around them."""
