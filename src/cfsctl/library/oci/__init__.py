"""What the library does with OCI images: `Repository.oci`, in one module for each kind of task."""
