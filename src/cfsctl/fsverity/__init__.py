"""fs-verity digests: computed here, or measured and enforced by the kernel."""
