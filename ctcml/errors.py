"""The few errors that ctcml raises on purpose.

    CtcmlError                     one line for the person at the keyboard; the CLI exits with 1
    ├── BadInput                   a file, table or value from outside is not what was promised
    │   ├── BadParams              params.yaml: every mistake, all at once
    │   └── BadTable               a table lacks a column, has an unknown one, or holds a wrong type
    ├── BrokenRecord               what we wrote ourselves no longer verifies (ledger, shard, weights)
    ├── ProtocolBreach             a rule about people or patients would be broken (blinding, sealed set, one reader twice)
    ├── CannotTrain                the training set or the run does not allow a model (missing class, non-finite loss)
    └── ServiceDown                a server, port, virtual environment or disk that we need is not there

Each message says which thing, what was expected, what was found, and what to do, in one line.
"""


class CtcmlError(Exception):
    """Base of every error raised on purpose; its text is one line fit for a person."""


class BadInput(CtcmlError):
    """Something that came from outside is not what was promised."""


class BadParams(BadInput):
    """`params.yaml` holds unknown, missing or impossible values; the message lists all of them."""


class BadTable(BadInput):
    """A table does not have the columns or types that its schema declares."""


class BrokenRecord(CtcmlError):
    """A record of our own no longer verifies."""


class ProtocolBreach(CtcmlError):
    """An action would break a rule that protects patients, readers or the sealed set."""


class CannotTrain(CtcmlError):
    """No model can be made from this training set or run."""


class ServiceDown(CtcmlError):
    """A server, port, virtual environment or disk that is needed is not available."""
