"""S/MIME 4.0 (RFC 8551): CMS structures (RFC 5652) over the primitives of cryptography.

`SmimeSigner`, `SmimeRecipient`, `SmimeSealer` and `SmimeOpener` are what `mimesec.ports` asks for;
`identity` reads keys and certificates, `make` makes them, `chain` says whom to believe.
"""
