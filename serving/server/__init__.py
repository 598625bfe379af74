"""The embedded server: a stand-in for `tensorflow_model_server` where no Docker is."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
