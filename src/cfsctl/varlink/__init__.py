"""The varlink service: both interfaces of composefs on one socket, for programs in any language.

    supervisor      accepts connections, and knows all handles           one process
    connection      reads calls and answers them one after the other     a process for each connection
    methods         what a call does, by way of `cfsctl.library`

A connection has a process of its own, so that a long call keeps nobody else waiting, and a client that goes
away ends its call and gives back all that it had. `messages`, `idl` and `types` are the protocol, without
input and output.
"""
