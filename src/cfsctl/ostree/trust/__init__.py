"""Trust: signatures, trusted keys, and the requirements of configured remotes.

verdict   the errors, and what is known of a valid signature
keys      ed25519 and spki keys and their signatures
gpg       OpenPGP keyrings, and signatures as `gpgv` judges them
policy    what must be signed and by whom; the one function that decides
remotes   policies and addresses from files of remotes, as libostree reads them
"""
