"""The verdict on an image: may it come in?

Signatures count where their digest is that of the manifest that is taken, or of the index it was chosen from: an index names
its manifests by digest, so that its signature is theirs too (``cosign sign`` of an index), and a manifest may be signed by
itself (``cosign sign --recursive``; containers/image looks at nothing else). One signature that fulfils a requirement is enough
for it; whatever else is found beside it doesn't matter. All requirements of the rule must be fulfilled.

An image's name is what the user asked for, whichever mirror it comes from.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from boxshipd.errors import InvalidParameter
from boxshipd.images.digest import sha256
from boxshipd.images.model import Index, decode
from boxshipd.images.reference import Reference
from boxshipd.trust.check import Check
from boxshipd.trust.discovery import Candidate, Search, subject_of
from boxshipd.trust.documents import refuse_ambiguous
from boxshipd.trust.errors import Untrusted
from boxshipd.trust.policy import DOCKER_ARCHIVE, OCI_ARCHIVE, TARBALL, KeySource, Policy, read_policy
from boxshipd.trust.repository import Repository

if TYPE_CHECKING:
    # Imports cryptography, which an engine without required signatures never does.
    from boxshipd.trust.keys import PublicKey

_TOLD_PROBLEMS = 5
_TOLD_LENGTH = 300


class _Document(Struct, frozen=True):
    """A manifest or an index whose signatures count: its bytes, and the digest that signatures are of."""

    data: bytes
    subject: str


class Trust:
    """The policy in force. Make it with ``open_trust``."""

    def __init__(self, policy: Policy, keys: dict[tuple[KeySource, ...], tuple[PublicKey, ...]]) -> None:
        self._policy = policy
        self._keys = keys

    def admit(self, name: Reference) -> bool:
        """Refuse at once what comes in under no circumstances; whether signatures have to be verified.

        To be called before a registry is asked for anything.

        Raises:
            Untrusted: the policy rejects the image.
        """
        rule = self._policy.rule_for(name)
        if rule.rejects:
            raise Untrusted(f"image {name.familiar} is rejected by the signature policy {self._policy.path} ({rule.where})")
        return bool(rule.signatures)

    def admit_loading(self) -> None:
        """Refuse archives of images at once, where the policy lets none in whatever its form.

        Raises:
            Untrusted: that is so.
        """
        try:
            self.admit_oci_archive()
        except Untrusted:
            self.admit_docker_archive()

    def admit_oci_archive(self) -> None:
        """Refuse an archive that is an OCI layout, unless the policy lets such in.

        Raises:
            Untrusted: the policy rejects it, or requires signatures, which archives don't have.
        """
        self._admit_archive(OCI_ARCHIVE)

    def admit_docker_archive(self) -> None:
        """Refuse an archive as ``docker save`` writes it, unless the policy lets such in.

        Raises:
            Untrusted: the policy rejects it, or requires signatures, which archives don't have.
        """
        self._admit_archive(DOCKER_ARCHIVE)

    def admit_root_file_system(self) -> None:
        """Refuse a root file system that is imported, unless the policy lets such in.

        Raises:
            Untrusted: the policy rejects it, or requires signatures, which archives don't have.
        """
        self._admit_archive(TARBALL)

    async def verify(
        self, name: Reference, digest: str, manifest: bytes, repository: Repository, *, indexes: Sequence[bytes] = ()
    ) -> None:
        """Let an image in, or refuse it. To be called before anything of the image is unpacked.

        Args:
            name: as the user asked for it, in full.
            digest: of the manifest.
            manifest: the manifest of the image that is taken.
            repository: where it is from.
            indexes: what it was chosen from, outermost first; each lists the next, and the last one the manifest.

        Raises:
            Untrusted: the policy rejects it, or a required signature isn't there.
            InvalidParameter: the digest isn't the manifest's, or an index doesn't list what was chosen from it.
            DaemonError: the registry can't be asked.
        """
        if not self.admit(name):
            return
        rule = self._policy.rule_for(name)
        documents = _chain(manifest, digest, indexes)
        checks = [Check(signed, self._keys[signed.keys], name) for signed in rule.signatures]
        problems: list[str] = []
        for document in documents:
            search = Search(repository, document.subject)
            async with contextlib.aclosing(search.candidates()) as candidates:
                async for candidate in candidates:
                    checks = await asyncio.to_thread(_unfulfilled, checks, candidate, document.data, document.subject)
                    if not checks:
                        return
            problems += search.problems
        found = _told([*checks[0].problems, *problems])
        looked_for = " or ".join(document.subject for document in documents)
        raise Untrusted(
            f"image {name.familiar} is refused: the signature policy {self._policy.path} ({rule.where}) requires a signature "
            f"of {looked_for} as {checks[0].wanted}; found: {found}"
        )

    def _admit_archive(self, transport: str) -> None:
        rule = self._policy.rule_for_archive(transport)
        if rule.rejects or rule.signatures:
            why = "is rejected" if rule.rejects else "has no signatures, which are required, and is rejected"
            raise Untrusted(f"{transport} {why} by the signature policy {self._policy.path} ({rule.where})")


def open_trust(path: str) -> Trust:
    """Read a policy, and the keys it names.

    Raises:
        InvalidParameter: it can't be kept to the letter.
    """
    policy = read_policy(path)
    keys: dict[tuple[KeySource, ...], tuple[PublicKey, ...]] = {}
    for rule in policy.rules:
        for signed in rule.signatures:
            try:
                keys[signed.keys] = _read_keys(signed.keys)
            except InvalidParameter as error:
                raise InvalidParameter(f"signature policy {path}: {rule.where}: {error}") from error
    return Trust(policy, keys)


def _read_keys(sources: tuple[KeySource, ...]) -> tuple[PublicKey, ...]:
    from boxshipd.trust.keys import read_keys

    keys: list[PublicKey] = []
    for source in sources:
        try:
            keys += read_keys(source.data)
        except InvalidParameter as error:
            raise InvalidParameter(f"{source.where} can't be used: {error}") from error
    return tuple(keys)


def _unfulfilled(checks: list[Check], candidate: Candidate, document: bytes, subject: str) -> list[Check]:
    return [check for check in checks if not check.fulfilled_by(candidate, document, subject)]


def _chain(manifest: bytes, digest: str, indexes: Sequence[bytes]) -> list[_Document]:
    """All documents whose signatures are the image's: it, and what leads to it; outermost first.

    Raises:
        InvalidParameter: one doesn't lead to the next, or is a manifest and an index at once.
    """
    documents = []
    below = digest
    refuse_ambiguous(manifest, an_index=False)
    documents.append(_Document(manifest, subject_of(manifest, digest)))
    for index in reversed(indexes):
        refuse_ambiguous(index, an_index=True)
        if all(entry.digest != below for entry in decode(Index, index, "index").manifests):
            raise InvalidParameter(f"index doesn't list {below}, which was chosen from it")
        below = sha256(index)
        documents.append(_Document(index, below))
    return documents[::-1]


def _told(problems: list[str]) -> str:
    """What was found, each thing once, within bounds."""
    if not problems:
        return "no signature"
    counted = Counter(problems)
    told = []
    for problem, times in counted.most_common(_TOLD_PROBLEMS):
        # Much of it is an attacker's text, and it ends on somebody's terminal.
        text = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in problem[:_TOLD_LENGTH])
        told.append(f"{text} ({times} times)" if times > 1 else text)
    more = len(counted) - len(told)
    return "; ".join(told) + (f"; and {more} more problems" if more else "")
