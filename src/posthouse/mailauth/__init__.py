"""Is it them: SPF, DKIM, DMARC, ARC, reverse DNS, and the field that tells of it.

Checks are generators of DNS questions (`questions`) and give values of `results`; nothing here
awaits, reads a clock or touches a socket.
"""
