"""The image storage of podman, buildah, skopeo and CRI-O (containers/storage), read without these programs.

    <root>/<driver>-images/images.json             images: names, digests, top layer
                           images.lock
                           <image ID>/manifest     and other documents, =<base64 of the name>
    <root>/<driver>-layers/layers.json             layers: parent, digest
                           layers.lock
                           <layer ID>.tar-split.gz what the layer's archive had beside the contents of files
    <root>/overlay/<layer ID>/diff                 the files of a layer; below vfs/dir for the driver vfs

Other users can have written all of this, so nothing is trusted: documents are parsed within limits, names
become paths only after a check, files are opened beneath the layer's directory without following any link,
and what is assembled from them counts only with the digest that the image's config says.
"""
