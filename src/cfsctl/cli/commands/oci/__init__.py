"""The ``oci`` commands."""
