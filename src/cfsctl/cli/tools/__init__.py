"""The tools next to cfsctl: mkcomposefs, composefs-info, mount.composefs and composefs-setup-root."""
