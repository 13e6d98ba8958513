"""SPF, RFC 7208: whether a host may use a domain in HELO and in MAIL FROM.

`check` is the way in: generators of DNS questions. `grammar` reads records, `macros` expands them,
`evaluation` finds what they say; `received_spf` and `refusal` tell the outcome.
"""
