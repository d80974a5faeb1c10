"""The study of alignment; see README.md."""
