"""Earlier targets of refs, and what happens when a ref moves."""
