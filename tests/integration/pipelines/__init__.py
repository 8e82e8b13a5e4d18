"""Scripts and pipelines as their users write them."""
