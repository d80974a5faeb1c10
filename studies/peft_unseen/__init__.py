"""The study of tuning methods: a grid of cells on real data, resumable, and its tables."""
