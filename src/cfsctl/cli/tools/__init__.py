"""The tools beside cfsctl: mkcomposefs, composefs-info and mount.composefs."""
