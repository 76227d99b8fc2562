"""The one thing that a caller of the sinks handles; apart, so that no module needs another one for it."""


class ExportError(RuntimeError):
    """A run cannot be exported; the message says what of, where to, and the remedy."""
