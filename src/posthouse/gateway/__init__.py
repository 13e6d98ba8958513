"""Mail of our users signed, encrypted, verified, opened and kept encrypted on its way, as the
policies of accounts and domains say: end-to-end protection for whose programs have none.

What is done with one message is in `outgoing`, `incoming` and `at_rest`; `own_copies` puts the
last two together; keys of others come by `key_search`.
"""
