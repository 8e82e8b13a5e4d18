"""Bootable trees: SELinux labels, boot entries, kernel arguments."""
