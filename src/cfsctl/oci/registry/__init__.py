"""Talking to registries: names, configuration files, credentials, and the protocol itself."""
