"""Which images may come in: the signature policy, and the verification of signatures against it.

A policy (``policy``) says for each image, by its name, whether it is accepted, rejected, or must be signed by certain keys.
Signatures are looked for beside the image in its registry (``discovery``), where cosign and skopeo put them, and verified with
the policy's keys (``keys``). What a signature says (``payload``, ``bundle``) must be of the very image and of the name that the
policy expects (``identity``). ``verifier`` is what the rest of the engine calls.
"""
