"""DKIM (RFC 6376, RFC 8301, RFC 8463, RFC 8616): who signed a message, and signing our own.

`grammar` reads tag lists, `keys` key records, `canonical` says which octets are hashed; `verify`
and `sign` are what others call.
"""
