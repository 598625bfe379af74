"""The flags of Beam's own runners."""

import contextlib
import logging


def runner_flags() -> dict[str, bool]:
    """Returns Beam's flags, and whether each takes a value; none where Beam is not installed."""
    logging.disable(logging.WARNING)  # Beam tells at its import which other packages there could be
    try:
        from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser
    except ModuleNotFoundError:
        return {}
    finally:
        logging.disable(logging.NOTSET)
    parser = _BeamArgumentParser(allow_abbrev=False)
    for group in PipelineOptions.__subclasses__():
        with contextlib.suppress(Exception):  # of tests, and of plug-ins
            group._add_argparse_args(parser)
    return {name: action.nargs != 0 for action in parser._actions for name in action.option_strings}
