"""Images in a repository: streams for layers, configs and manifests, and tags that lead to manifests.

streams/oci-layer-<digest>       the unpacked layer; or, of an artifact, one blob
streams/oci-config-<digest>      the config; names its layers and the images made of them
streams/oci-manifest-<digest>    the manifest; names its config and layers
streams/refs/oci/<tag>           a tag
"""
