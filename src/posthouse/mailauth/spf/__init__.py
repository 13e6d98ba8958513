"""SPF, RFC 7208: whether a host may use a domain in HELO and in MAIL FROM.

`grammar` reads records, `macros` expands them, `check` evaluates them as a generator of DNS
questions, `received_spf` and `refusal` tell the outcome.
"""
