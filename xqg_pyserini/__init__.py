"""Cross-lingual dense retrieval with generated queries (xQG), on top of Pyserini.

The public names are those of `__init__.pyi`; each is imported when it is first used, so that
`import xqg_pyserini` is quick.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
