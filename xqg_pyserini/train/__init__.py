"""Training: retrievers and generators."""
