"""A repository that two programs work on in turn, and a model of what must be in it.

    programs     the two: this one, and the one that CFSCTL_PEER names, or this one set up in another way
    sources      trees on disk, and OSTree repositories of them
    model        what must be there, known from what was done alone
    world        the repository, the two programs, and what is checked after every step
    operations   what can be done: name, who can do it, when, and what it changes in the model
    containers   the same with OCI images
    fuse         the same with FUSE mounts

An operation is a function with a decorator in one of these modules, which the test imports.
"""
