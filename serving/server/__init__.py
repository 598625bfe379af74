"""The embedded server: a stand-in for `tensorflow_model_server` where no Docker is."""
