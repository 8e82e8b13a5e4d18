"""Mounting the root file system that the kernel command line names, in the initramfs.

config    the configuration file     pure
policy    which image is booted      pure
layers    overlays and tmpfs
run       the steps in their order
"""
