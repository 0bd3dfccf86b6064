"""A file of JSON lines in which each carries the hash of the one before it, and the signed heads that anchor it outside.

An edit, a deletion or a swap breaks the chain from there on. A cut at the end keeps a valid chain, so length and last hash
are also written down elsewhere, signed with the workspace's key, and `verify` compares with them. A line that a crash left
torn is set aside, not lost, at the next append. What the lines say is the affair of the ledger and of the audit log.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from ctcml.errors import BrokenRecord
from ctcml.tables import atomic_path

GENESIS = "0" * 64
Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Head:
    """An anchor: that many events, the last with that hash; `signature` says that a holder of the key wrote it."""

    length: int
    hash: str
    signature: str = ""


class Chain:
    """The chain in one file, safe under several writers on one machine; or in the segments of a folder, to be read.

    `name` tells chains apart in signatures; `cure` says what a person should do when this one is broken.

    >>> import tempfile
    >>> chain = Chain(Path(tempfile.mkdtemp()) / "words.jsonl", name="words", cure="ask somebody")
    >>> chain.append(lambda: [{"word": "one"}, {"word": "two"}]).length
    2
    >>> [line["word"] for line in chain.lines()]
    ['one', 'two']
    """

    def __init__(self, path: Path, *, name: str, cure: str) -> None:
        self.path, self.name, self.cure = path, name, cure

    def append(self, make: Callable[[], Iterable[Line]], *, then: Callable[[Head], None] = lambda head: None) -> Head:
        """Write the lines that `make` draws from what is there, and return the new head once they are on the disk.

        Nobody else writes in between, so what `make` read still holds; `then` is told the head before others may write.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.locked():
            lines = list(make())
            self._set_torn_line_aside()
            head, written = self.head(), []
            for line in lines:
                line = {**line, "seq": head.length, "prev": head.hash}
                digest = _hash(line)
                written.append(_text({**line, "hash": digest}))
                head = Head(length=head.length + 1, hash=digest)
            if written:
                with self.path.open("ab") as file:
                    file.write(("\n".join(written) + "\n").encode())
                    file.flush()
                    os.fsync(file.fileno())
            then(head)
            return head

    def locked(self) -> FileLock:
        """While it is held nobody appends."""
        return FileLock(f"{self.path}.lock")

    def _set_torn_line_aside(self) -> None:
        """Move an unfinished last line (a crash in the middle of a write) to `<chain>.torn`."""
        torn = _tail(self.path, whole=False) if self.path.exists() else b""
        if not torn:
            return
        with self.path.with_suffix(".torn").open("ab") as aside:
            aside.write(torn + b"\n")
            aside.flush()
            os.fsync(aside.fileno())
        with self.path.open("r+b") as file:
            file.truncate(self.path.stat().st_size - len(torn))
            os.fsync(file.fileno())

    def lines(self) -> Iterator[Line]:
        """All lines in order, each checked against its own hash and the one before; `BrokenRecord` names the first wrong one."""
        prev = GENESIS
        for number, raw in enumerate(self.raw_lines()):
            if not raw.endswith(b"\n"):
                return  # torn by a crash: never acknowledged to anybody
            line = self._parse(raw, f"line {number + 1}")
            if line["prev"] != prev or line["seq"] != number:
                raise BrokenRecord(f"{self.path}: line {number + 1} does not follow the line before it; {self.cure}")
            prev = line["hash"]
            yield line

    def raw_lines(self) -> Iterator[bytes]:
        """The lines as they stand in the file, or in the segments, unchecked."""
        for file in self.files():
            with file.open("rb") as opened:
                yield from opened

    def files(self) -> list[Path]:
        """The file, or the segments in order."""
        if self.path.is_dir():
            return sorted(self.path.glob("*.jsonl"))
        return [self.path] if self.path.exists() else []

    def head(self) -> Head:
        """Length and last hash; reads the last whole line only."""
        files = self.files()
        last = _tail(files[-1], whole=True) if files else b""
        if not last:
            return Head(length=0, hash=GENESIS)
        line = self._parse(last, "the last line")
        return Head(length=line["seq"] + 1, hash=line["hash"])

    def verify(self, *anchors: Head | None) -> Head:
        """Walk the whole chain and compare it with anchors; `BrokenRecord` names the first line or anchor that is wrong."""
        return self.passed(self.lines(), *anchors)

    def passed(self, lines: Iterable[Line], *anchors: Head | None) -> Head:
        """The head after `lines`, which must have come by every anchor."""
        missing = {(one.length, one.hash) for one in anchors if one is not None and one.length}
        head = Head(length=0, hash=GENESIS)
        for line in lines:
            head = Head(length=line["seq"] + 1, hash=line["hash"])
            missing.discard((head.length, head.hash))
        for length, digest in sorted(missing):
            raise BrokenRecord(
                f"{self.path}: {head.length} events, but event {length} of the signed head {digest[:12]}… is not among "
                f"them; {self.cure}"
            )
        return head

    def _parse(self, raw: bytes, which: str) -> Line:
        """A line as it stands, verified against its own hash."""
        try:
            line: Line = json.loads(raw)
            claimed = line.pop("hash")
            sound = isinstance(line["seq"], int) and isinstance(line["prev"], str)
        except (ValueError, KeyError, TypeError, AttributeError):
            sound, claimed, line = False, "", {}
        if not sound:
            raise BrokenRecord(f"{self.path}: {which} is not an event of ours; {self.cure}")
        if claimed != _hash(line):
            raise BrokenRecord(f"{self.path}: {which} was changed after it was written; {self.cure}")
        line["hash"] = claimed
        return line

    def signed(self, head: Head, key: bytes) -> Head:
        """The head with the signature of whoever holds the workspace's key."""
        return replace(head, signature=self._signature(head, key))

    def is_signed(self, head: Head, key: bytes) -> bool:
        """Whether a holder of the key wrote this head, and of this chain."""
        return hmac.compare_digest(head.signature.encode(), self._signature(head, key).encode())

    def _signature(self, head: Head, key: bytes) -> str:
        return hmac.new(key, f"{self.name} head {head.length} {head.hash}".encode(), hashlib.sha256).hexdigest()


def _text(line: Line) -> str:
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _hash(line: Line) -> str:
    return hashlib.sha256(_text(line).encode()).hexdigest()


def write_head(head: Head, path: Path, **beside: Head) -> None:
    """Write an anchor file; heads of other chains may stand in it by name."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(asdict(head) | {name: asdict(other) for name, other in beside.items()}) + "\n")


def read_head(path: Path) -> Head | None:
    """Read an anchor file; nothing when there is none yet."""
    return parse_head(path.read_text(), str(path)) if path.exists() else None


def parse_head(text: str, where: str) -> Head:
    """An anchor as it was written; `BrokenRecord` if it is damaged."""
    try:
        found = json.loads(text)
        return Head(length=int(found["length"]), hash=str(found["hash"]), signature=str(found.get("signature", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BrokenRecord(f"{where}: not an anchor of a ledger; bring it back from git") from None


def parse_beside(text: str, where: str, name: str) -> Head | None:
    """The head of another chain that an anchor names beside its own; anchors of former times name none."""
    parse_head(text, where)
    other = json.loads(text).get(name)
    return None if other is None else parse_head(json.dumps(other), where)


def _tail(file: Path, *, whole: bool, block: int = 1 << 16) -> bytes:
    """The last whole line of a file, or what follows it without an end; reads no more of the file than it must."""
    ends_needed = 2 if whole else 1
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        content, start = b"", size
        while start > 0 and content.count(b"\n") < ends_needed:
            start = max(0, start - block)
            opened.seek(start)
            content = opened.read()
    complete, _, torn = content.rpartition(b"\n")
    return complete.rpartition(b"\n")[2] if whole else torn
