"""Runs signatures of exports in a process without Keras: `run_exports.py REQUESTS.npz ANSWERS.npz DIR...`.

Without words it reads such from lines of JSON, and says "done" after each.
Arrays are named DIRECTORY_INDEX/SIGNATURE/TENSOR; encoded pictures and PNGs are object arrays of bytes.
"""

import json
import sys

sys.modules["keras"] = None

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def main(requests_file, answers_file, *directories):
    requests = np.load(requests_file, allow_pickle=True)
    calls = {}
    for key in requests.files:
        index, signature, tensor = key.split("/")
        calls.setdefault((int(index), signature), {})[tensor] = requests[key]
    loaded = {index: tf.saved_model.load(directories[index]) for index in {index for index, _ in calls}}
    answers = {}
    for (index, signature), tensors in calls.items():
        inputs = {name: tf.constant(value) for name, value in tensors.items()}
        for output, value in loaded[index].signatures[signature](**inputs).items():
            answers[f"{index}/{signature}/{output}"] = value.numpy()
    np.savez(answers_file, **answers)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(*sys.argv[1:])
    for line in sys.stdin if len(sys.argv) == 1 else ():
        main(*json.loads(line))
        print("done", flush=True)
