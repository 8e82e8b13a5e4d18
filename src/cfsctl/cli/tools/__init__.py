"""The tools next to cfsctl: mkcomposefs, composefs-info and mount.composefs."""
