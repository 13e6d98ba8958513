"""Certificates, TLS contexts by RFC 9325, and what we think of a peer's certificate."""
