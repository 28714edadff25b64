"""The one error that ends an import with a message instead of a traceback."""


class ImportFailed(Exception):
    """Why a model cannot be imported, for whoever trained it."""
