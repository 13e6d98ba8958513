"""OpenPGP (RFC 9580) in PGP/MIME (RFC 3156), over pysequoia."""
