"""The study of query generators; see README.md."""
