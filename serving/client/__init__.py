"""The client of a served segmentation model. It never imports TensorFlow."""
