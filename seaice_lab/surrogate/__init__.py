"""The surrogate: a network that steps a sea-ice model's thickness forward, and all it needs."""
