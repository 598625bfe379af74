from .loading import (
    adapt_keras_model as adapt_keras_model,
    load_source as load_source,
)
