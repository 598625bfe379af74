"""`python -m maskport.export.calibrate` is `mask-calibrate`."""

from ...serving.entry import calibrate

if __name__ == "__main__":
    calibrate()
