"""The study of generators; see README.md."""
