"""What can go wrong with a local stack, each with what to do about it.

SpillwayError
└── Permanent
    └── StackError
        ├── MissingTool     this machine lacks something, and it could not be fetched
        ├── PortTaken       somebody else listens where we would
        ├── AlreadyUp       the state folder has a running supervisor
        └── StackFailed     a process did not become ready; carries the end of its log
"""

from pipeline.errors import Permanent


class StackError(Permanent):
    """A local stack can't do what was asked; the message says what to do."""


class MissingTool(StackError):
    """This machine lacks something, and it could not be fetched."""


class PortTaken(StackError):
    """Somebody else listens where we would; the message names who."""


class AlreadyUp(StackError):
    """The state folder has a running supervisor, or one is being started."""


class StackFailed(StackError):
    """A process did not become ready, or did not stop; carries the end of its log."""
