"""S/MIME and OpenPGP: signing, verifying, encrypting and opening MIME entities, purely.

Keys, certificates and the time come in as arguments; whoever calls finds and keeps them. Nothing
here asks a network, a clock or a disk.
"""
