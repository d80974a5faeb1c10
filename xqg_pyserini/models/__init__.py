"""Models on this machine: encoders, what they are known by, and what was tuned on top of them."""
