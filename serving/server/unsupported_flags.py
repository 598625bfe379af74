"""The flags that `tensorflow_model_server` has and the embedded server has not.

They are defined so that a command line made for TensorFlow Serving ends with a helpful line, and stand in a
module of their own so that `--help` does not list them. Names as in TensorFlow Serving's main.cc.
"""

from absl import flags

_SWITCHES = (
    "enable_profiler",
    "flush_filesystem_caches",
    "prefer_tflite_model",
    "skip_initialize_tpu",
    "use_alts_credentials",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
)
_VALUES = (
    "mixed_precision",
    "num_tflite_interpreters_per_pool",
    "num_tflite_pools",
    "per_process_gpu_memory_fraction",
    "platform_config_file",
    "tensorflow_session_config_file",
    "thread_pool_factory_config_file",
)
UNSUPPORTED = frozenset(_SWITCHES + _VALUES)

for _name in UNSUPPORTED:
    (flags.DEFINE_boolean if _name in _SWITCHES else flags.DEFINE_string)(_name, None, "Not supported.")
    flags.register_validator(
        _name, lambda value: value is None, message="not supported by the embedded server; use TensorFlow Serving"
    )
