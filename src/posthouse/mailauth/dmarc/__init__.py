"""DMARC (RFC 9989): does the author's domain stand by the message, and what does it ask for if not.

`grammar` reads policy records, `discover` finds the record and the organizational domain by the
DNS tree walk, `evaluate` judges a message. Reports are `posthouse.reporting`'s.
"""
