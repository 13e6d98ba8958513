"""Certificates by ACME (RFC 8555): obtained, kept, renewed in time, with keys that change only once
the DNS shows their TLSA records.

`keeper` decides what is due and has it done; `authority` alone knows the `acme` library, an extra
(`posthouse[acme]`) that is imported when the first order is made.
"""
