"""The fusion of a passage with its generated queries: formula, stores, and what vectors are like."""
