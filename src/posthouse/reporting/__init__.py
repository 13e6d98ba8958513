"""DMARC and TLS reports: what we tell others about mail, and what others tell us about ours.

Out: `collect` sums what reception and relay see, `plan` and `job` send it once a day
(`compose_dmarc`, `compose_tls`), `failures` tells of single messages where a domain asks for it.
In: `read` makes values of whatever others send, `intake` does so with mail to our report addresses.
"""
